#!/bin/sh
# pitool of the release in use. libgomp must not spin: it takes the model's cores.
export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-0}" PITOOL_LAUNCHER="$0" PITOOL_HOME="${PITOOL_HOME:-@HOME@}"
exec "@HOME@/current/runtime/bin/python" -P -m pitool "$@"
