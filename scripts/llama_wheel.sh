# shellcheck shell=bash
# Finds the llama-cpp-python wheel: a given one, a cached one, or one compiled for this CPU; and
# tries it. Sourced by install.sh after scripts/machine.sh; sets WHEEL.

misfit() { # misfit WHEEL: print why it cannot be used here, or nothing
    local dist version platform glibc name=${1##*/}
    IFS=- read -r dist version _ _ platform <<<"${name%.whl}"
    glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null || true)
    if [ "$dist" != llama_cpp_python ] || [ -z "$platform" ]; then
        echo "is not a llama-cpp-python wheel"
    elif [ "$version" != "$VERSION" ]; then
        echo "is version $version, but pitool needs $VERSION"
    elif ! fits_platform "$platform"; then
        echo "is for $platform, but this machine is $(uname -sm)"
    elif [[ $platform =~ manylinux_2_([0-9]+)_ ]] && [[ -n $glibc && ${glibc##*.} -lt ${BASH_REMATCH[1]} ]]; then
        echo "needs glibc 2.${BASH_REMATCH[1]}, but this system has $glibc"
    fi
}

fits_platform() {
    case $1.$(uname -sm) in
        *linux*_x86_64.Linux\ x86_64 | *linux*_aarch64.Linux\ aarch64) ;;
        macosx*_arm64.Darwin\ arm64 | macosx*_x86_64.Darwin\ x86_64 | macosx*_universal2.Darwin\ *) ;;
        *) false ;;
    esac
}

use_given() { # from --wheel, PITOOL_WHEEL or wheels/: set WHEEL and, for a folder, FIND_LINKS
    local wheel reason='' asked=$GIVEN
    if [ -z "$asked" ]; then
        [ -d "$ROOT/wheels" ] || return 0
        GIVEN=$ROOT/wheels
    fi
    [ -e "$GIVEN" ] || die 2 "$GIVEN does not exist." "Name a llama-cpp-python wheel, or a folder that contains one."
    GIVEN=$(cd "$(dirname "$GIVEN")" && pwd -P)/$(basename "$GIVEN")
    [ -f "$GIVEN" ] || FIND_LINKS=$GIVEN
    for wheel in "$GIVEN"/llama_cpp_python-*.whl "$GIVEN"; do
        [ -f "$wheel" ] || continue
        reason=$(misfit "$wheel")
        [ -n "$reason" ] || { WHEEL=$wheel && return; }
        reason="$(basename "$wheel") $reason"
    done
    [ -z "$asked" ] || die 2 "${reason:-$GIVEN contains no llama-cpp-python wheel}." \
        "Use a wheel for this machine, or drop --wheel to compile one."
    [ -z "$reason" ] || warn "ignored: wheels/$reason"
    GIVEN=''
}

cached_wheel() { # print the path of the wheel compiled here earlier, if there is one
    local wheel
    for wheel in "$CACHE/wheels/$VERSION-$CPU_KEY"/llama_cpp_python-*.whl; do
        if [ -f "$wheel" ]; then printf '%s' "$wheel" && return; fi
    done
}

build_jobs() { # as many compile jobs as the cores and the memory allow
    local cores memory
    cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
    memory=$(free_memory)
    memory=$((${memory:-1000000} / BUILD_MEMORY))
    if [ "$memory" -lt "$cores" ]; then cores=$memory; fi
    if [ "$cores" -lt 1 ]; then cores=1; fi
    echo "$cores"
}

compile_wheel() { # compile_wheel JOBS: without llama.cpp's common library, one copy of each .so
    local origin="\$ORIGIN" flags=''
    if [ "$(uname -s)" = Darwin ]; then origin=@loader_path; fi
    # GCC 12 removes most of ggml's AMX tile configuration as dead stores, so the first product with
    # a quantised matrix would end in SIGILL. AVX-512 VNNI is used instead.
    if [ "$(uname -m)" = x86_64 ]; then flags='-DCMAKE_C_FLAGS=-mno-amx-int8 -DCMAKE_CXX_FLAGS=-mno-amx-int8'; fi
    echo 'set(LLAMA_BUILD_COMMON OFF CACHE BOOL "" FORCE)' >"$TMP/lean.cmake"
    export CMAKE_GENERATOR=Ninja CMAKE_BUILD_PARALLEL_LEVEL=$1 SKBUILD_BUILD_DIR=$TMP/build SKBUILD_CMAKE_VERBOSE=false
    export SKBUILD_WHEEL_EXCLUDE='llama_cpp/include/**;llama_cpp/lib/cmake/**;llama_cpp/lib/pkgconfig/**;bin/**;include/**;lib/**'
    export CMAKE_ARGS="-DGGML_NATIVE=ON $flags -DGGML_RPC=ON -DLLAVA_BUILD=OFF -DLLAMA_OPENSSL=OFF
        -DCMAKE_PLATFORM_NO_VERSIONED_SONAME=ON -DCMAKE_INSTALL_RPATH=$origin -DCMAKE_INSTALL_LIBDIR=llama_cpp/lib
        -DCMAKE_INSTALL_BINDIR=llama_cpp/lib -DCMAKE_INSTALL_INCLUDEDIR=llama_cpp/include
        '-DCMAKE_PROJECT_llama.cpp_INCLUDE=$TMP/lean.cmake'"
    # Without pip's cache, which would reuse the wheel on another CPU.
    run_pip wheel -v --no-deps --no-cache-dir --no-binary llama-cpp-python -w "$TMP/wheel" "llama-cpp-python==$VERSION"
}

build_wheel() { # compile for this CPU; the wheel is moved into the cache in one step
    local kept=$CACHE/wheels/$VERSION-$CPU_KEY jobs=${CMAKE_BUILD_PARALLEL_LEVEL:-$(build_jobs)}
    if is_pi; then
        warn "compiling on a Raspberry Pi takes up to an hour; installing a prebuilt wheel takes seconds (--wheel FILE)"
    fi
    step "Compiling llama.cpp for this CPU, only once, with $jobs jobs (2 to 5 minutes on a laptop)" compile_wheel "$jobs" ||
        step_failed "llama.cpp did not compile" "Fix the errors above, or use a prebuilt wheel with --wheel"
    sync
    mkdir -p "$CACHE/wheels"
    rm -rf "$kept"
    mv "$TMP/wheel" "$kept"
    WHEEL=$(cached_wheel)
    say "  cached for later installs: $WHEEL"
}

SMOKE='
import ctypes, pathlib, llama_cpp
llama_cpp.llama_backend_init()
for path in (pathlib.Path(llama_cpp.__file__).parent / "lib").glob("libggml-cpu.*"):
    blocks, size, out = (ctypes.c_char * 340)(), ctypes.c_size_t(0), ctypes.c_float()
    ctypes.CDLL(str(path)).ggml_vec_dot_q8_0_q8_0(320, ctypes.byref(out), size, blocks, size, blocks, size, 1)
'

smoke_test() { # in child processes, because a library built for another CPU crashes when it is used
    local said code=0
    said=$(PYTHONSAFEPATH=1 "$VENV/bin/python" -c "$SMOKE" 2>&1) || code=$?
    [ $code -ne 132 ] || die 1 "$(basename "${WHEEL:-.venv}") uses instructions that this CPU does not have." \
        "Use a wheel for this CPU, or drop --wheel to compile one."
    [ $code -eq 0 ] || die 1 "llama.cpp does not start: ${said##*$'\n'}." "Use another wheel, or drop --wheel to compile one."
    PYTHONSAFEPATH=1 "$VENV/bin/python" -c 'import onnxruntime' >/dev/null 2>&1 ||
        warn "onnxruntime does not start on this machine: ONNX models will not run, GGUF models will."
}
