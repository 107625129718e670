# Print the first Python of the given versions that runs and can make environments: find_python.sh 3.11 3.12 …
# PYTHON names one to use instead. Exits 1 with a remedy where none fits.
works() {
    "$1" -c 'import sys, ensurepip, venv; sys.exit(".".join(map(str, sys.version_info[:2])) not in sys.argv[1:])' \
        "$2" 2>/dev/null
}
for version in "$@"; do
    for python in ${PYTHON:-"python$version" python3}; do
        if works "$python" "$version"; then
            echo "$python"
            exit 0
        fi
    done
done
"${PYTHON:-python3}" - "$@" >&2 2>/dev/null <<'END' || true
import sys

here, wanted = sys.version_info[:2], [tuple(map(int, each.split("."))) for each in sys.argv[1:]]
if here not in wanted:
    what = "too new: some packages of this course have no builds for it yet" if here > max(wanted) else "too old"
    print(f"{sys.executable} is Python {here[0]}.{here[1]}, {what}.")
END
echo "expected ${PYTHON:-a Python} of version $* with the venv module, found none;" \
    "install one (Debian and Ubuntu: python3 and python3-venv; anywhere: uv python install $1)" \
    "or name it: make PYTHON=/path/to/python …" >&2
exit 1
