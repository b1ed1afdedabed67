# shellcheck shell=bash
# The llama-cpp-python wheel: a given one, the cached one, or one compiled for exactly this CPU.
# Sourced by install.sh after scripts/machine.sh; sets WHEEL.

misfit() { # misfit WHEEL: prints why it cannot be used here; nothing when it can
    local dist version platform glibc name=${1##*/}
    IFS=- read -r dist version _ _ platform <<<"${name%.whl}"
    glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null || true)
    if [ "$dist" != llama_cpp_python ] || [ -z "$platform" ]; then
        echo "is no llama-cpp-python wheel"
    elif [ "$version" != "$VERSION" ]; then
        echo "is version $version and pitool needs $VERSION"
    elif ! fits_platform "$platform"; then
        echo "is for $platform and this machine is $(uname -sm)"
    elif [[ $platform =~ manylinux_2_([0-9]+)_ ]] && [[ -n $glibc && ${glibc##*.} -lt ${BASH_REMATCH[1]} ]]; then
        echo "needs glibc 2.${BASH_REMATCH[1]} and this system has $glibc"
    fi
}

fits_platform() {
    case $1.$(uname -sm) in
        *linux*_x86_64.Linux\ x86_64 | *linux*_aarch64.Linux\ aarch64) ;;
        macosx*_arm64.Darwin\ arm64 | macosx*_x86_64.Darwin\ x86_64 | macosx*_universal2.Darwin\ *) ;;
        *) false ;;
    esac
}

use_given() { # of --wheel, PITOOL_WHEEL or wheels/: sets WHEEL and, for a folder, FIND_LINKS
    local wheel reason='' asked=$GIVEN
    if [ -z "$asked" ]; then
        [ -d "$ROOT/wheels" ] || return 0
        GIVEN=$ROOT/wheels
    fi
    [ -e "$GIVEN" ] || die 2 "$GIVEN does not exist." "Give --wheel a llama-cpp-python wheel or a folder with one."
    GIVEN=$(cd "$(dirname "$GIVEN")" && pwd -P)/$(basename "$GIVEN")
    [ -f "$GIVEN" ] || FIND_LINKS=$GIVEN
    for wheel in "$GIVEN"/llama_cpp_python-*.whl "$GIVEN"; do
        [ -f "$wheel" ] || continue
        reason=$(misfit "$wheel")
        [ -n "$reason" ] || { WHEEL=$wheel && return; }
        reason="$(basename "$wheel") $reason"
    done
    [ -z "$asked" ] || die 2 "${reason:-$GIVEN holds no llama-cpp-python wheel}." \
        "Give one for this machine, or leave it out to have one compiled."
    [ -z "$reason" ] || warn "not used: wheels/$reason"
    GIVEN=''
}

cached_wheel() { # prints the path of the wheel compiled here earlier, if there is one
    local wheel
    for wheel in "$CACHE/wheels/$VERSION-$CPU_KEY"/llama_cpp_python-*.whl; do
        if [ -f "$wheel" ]; then printf '%s' "$wheel" && return; fi
    done
}

build_jobs() { # as many compile jobs as there are cores, and as memory holds
    local cores memory
    cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
    memory=$(free_memory)
    memory=$((${memory:-1000000} / BUILD_MEMORY))
    if [ "$memory" -lt "$cores" ]; then cores=$memory; fi
    if [ "$cores" -lt 1 ]; then cores=1; fi
    echo "$cores"
}

compile_wheel() { # compile_wheel JOBS: no common library, one copy of each .so; run in a subshell by step
    local origin="\$ORIGIN" flags=''
    if [ "$(uname -s)" = Darwin ]; then origin=@loader_path; fi
    # GCC 12 drops most of ggml's AMX tile configuration as dead stores: the first product with a
    # quantised matrix would end in SIGILL. AVX-512 VNNI serves instead.
    if [ "$(uname -m)" = x86_64 ]; then flags='-DCMAKE_C_FLAGS=-mno-amx-int8 -DCMAKE_CXX_FLAGS=-mno-amx-int8'; fi
    echo 'set(LLAMA_BUILD_COMMON OFF CACHE BOOL "" FORCE)' >"$TMP/lean.cmake"
    export CMAKE_GENERATOR=Ninja CMAKE_BUILD_PARALLEL_LEVEL=$1 SKBUILD_BUILD_DIR=$TMP/build SKBUILD_CMAKE_VERBOSE=false
    export SKBUILD_WHEEL_EXCLUDE='llama_cpp/include/**;llama_cpp/lib/cmake/**;llama_cpp/lib/pkgconfig/**;bin/**;include/**;lib/**'
    export CMAKE_ARGS="-DGGML_NATIVE=ON $flags -DLLAVA_BUILD=OFF -DLLAMA_OPENSSL=OFF
        -DCMAKE_PLATFORM_NO_VERSIONED_SONAME=ON -DCMAKE_INSTALL_RPATH=$origin -DCMAKE_INSTALL_LIBDIR=llama_cpp/lib
        -DCMAKE_INSTALL_BINDIR=llama_cpp/lib -DCMAKE_INSTALL_INCLUDEDIR=llama_cpp/include
        '-DCMAKE_PROJECT_llama.cpp_INCLUDE=$TMP/lean.cmake'"
    # Without pip's cache: it would keep the wheel and hand it out to another CPU.
    run_pip wheel -v --no-deps --no-cache-dir --no-binary llama-cpp-python -w "$TMP/wheel" "llama-cpp-python==$VERSION"
}

build_wheel() { # compiles for exactly this CPU; the wheel goes into the cache in one move
    local kept=$CACHE/wheels/$VERSION-$CPU_KEY jobs=${CMAKE_BUILD_PARALLEL_LEVEL:-$(build_jobs)}
    if is_pi; then
        warn "compiling on a Raspberry Pi takes up to an hour; with a ready wheel it takes seconds: --wheel FILE"
    fi
    step "Compiling llama.cpp for this CPU, once, $jobs jobs (2 to 5 minutes on a laptop)" compile_wheel "$jobs" ||
        step_failed "llama.cpp did not compile" "Free memory or disk if the lines above ask for it, or give a ready wheel with --wheel"
    sync
    mkdir -p "$CACHE/wheels"
    rm -rf "$kept"
    mv "$TMP/wheel" "$kept"
    WHEEL=$(cached_wheel)
    say "  kept for every later install: $WHEEL"
}
