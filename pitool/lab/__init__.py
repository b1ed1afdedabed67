"""The lab: every quantization technique on one model, made, measured and set side by side."""
