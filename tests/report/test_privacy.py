"""What says who somebody is, or opens a door, is not in a text that is sent on."""

from __future__ import annotations

import pytest

from pitool.report.privacy import Redaction

SECRETS = {
    "a token of the hub": ("HTTP 401 with hf_QwErTyUiOpAsDfGhJk", "hf_QwErTyUiOpAsDfGhJk"),
    "a header": ("Authorization: Bearer s3cr3t.value", "s3cr3t"),
    "a header of JSON": ("{'authorization': 'Basic dXNlcjpwYXNz'}", "dXNlcjpwYXNz"),
    "a bearer": ("sent bearer abcDEF==", "abcDEF"),
    "a key of serve": ("PITOOL_API_KEY=correct-horse", "correct-horse"),
    "a key in JSON": ('"api_key": "correct horse"', "correct"),
    "a password": ("password: hunter2", "hunter2"),
    "a key of others": ("sk-abcdefgh12345678", "abcdefgh12345678"),
    "a long word": ("x=Zm9vYmFyMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM", "Zm9vYmFy"),
    "a key of the environment": ("the key is open sesame!", "open sesame"),
    "an address of ssh": ("cannot reach anna@garage.example.org: refused", "garage.example"),
    "a login in an address": ("https://anna:pass@example.org/x", "anna"),
    "IPv4": ("no route to 192.168.17.23:8080", "192.168.17.23"),
    "IPv6": ("no route to [fe80::1234:5678%eth0]:22", "fe80::1234"),
    "IPv6 before a colon": ("2001:db8::7: refused", "2001:db8::7"),
    "a card": ("dc:a6:32:01:02:03", "dc:a6:32"),
    "a name of the network": ("annas-pi.local did not answer", "annas-pi"),
    "the home of another": ("/home/anna/models/x.gguf", "anna"),
    "the home on macOS": ("/Users/anna/models/x.gguf", "anna"),
}
HARMLESS = (
    "2026-11-29T02:31:09Z pitool 0.1.0 bench: 1:02:03 left",
    "llama-cpp-python 0.3.36, onnxruntime 1.22.0, kernel 6.6.51+rpt-rpi-2712",
    "Raspberry Pi 5 Model B Rev 1.0, 4 cores at 2400 MHz, http://127.0.0.1:8080/v1",
    "std::bad_alloc in ggml::x, 32 tokens, token limit 512",
    'File "/opt/pitool/engine/llamacpp/engine.py", line 77, in load_state',
    "Qwen2.5-1.5B-Instruct Q4_K_M, llama_cpp_python-0.3.36-cp311-cp311-linux_aarch64.whl",
)


@pytest.mark.parametrize("case", SECRETS)
def test_a_secret_is_removed(case: str) -> None:
    text, secret = SECRETS[case]
    redaction = Redaction()
    found = redaction.secrets(text, ["open sesame!"])
    assert secret not in found
    assert "[" in found
    assert sum(redaction.removed.values()) >= 1


@pytest.mark.parametrize("text", HARMLESS)
def test_what_an_issue_needs_stays(text: str) -> None:
    redaction = Redaction()
    assert redaction.secrets(text) == text
    assert redaction.spoken(text.replace('"', ""), ["Hello", "How are you?"]) == text.replace(
        '"', ""
    )
    assert redaction.removed == {}


def test_names_are_removed_wherever_they_stand() -> None:
    names = {"user": ["marlene", "Marlene Dietrich", "pi"], "home folder": ["/srv/marlene"]}
    text = "/srv/marlene/x, /data/Marlene_backup, MARLENES model by Marlene Dietrich, pi, pi5, Pi"
    redaction = Redaction()
    assert redaction.names(text, names) == (
        "[home folder]/x, /data/[user]_backup, [user]S model by [user], [user], pi5, Pi"
    )
    assert redaction.removed == {"home folder": 1, "user": 4}


def test_what_was_said_is_removed() -> None:
    story = " ".join(f"Word{number} of a story" for number in range(100))
    said = ["My  secret   recipe:\n  take two eggs\nok", story]
    log = (
        "fault: My secret recipe:\n    take two eggs\nok, GGML_ASSERT(x) 'a quoted thing' 'Q4_K'\n"
        f"cannot parse {story[:500]} … {story[-500:]}\nthe end"
    )
    redaction = Redaction()
    assert redaction.spoken(log, said).splitlines() == [
        "fault: [conversation]",
        "    [conversation]",
        "ok, GGML_ASSERT(x) [quotation] 'Q4_K'",
        "[conversation]",
        "the end",
    ]
    assert redaction.removed == {"conversation": 3, "quotation": 1}
