# shellcheck shell=bash
# Getting what the checks need onto the machine: sourced by tests/run, after
# report.sh, whose $log and $seconds it shows.
: "${log=}" "${seconds=}"

# What a part needs, as commands, and the Debian or Ubuntu package of each.
needs_of() { # PART
    case $1 in
        format | doc) ;;
        chaos) echo cc openssl python3 ;;
        peers) echo cc nginx openssl prometheus promtool ;;
        scripts) echo shellcheck python3 ;;
        sdk) echo cc nginx python3 venv ;;
        security) echo bwrap cc curl nginx openssl python3 systemd-analyze ;;
        service) echo systemd-analyze ;;
        alerts) echo promtool ;;
        test) echo cc faketime fsfreeze ip mkfs.ext4 strace ;;
        *) echo cc ;;
    esac
}

package_of() { # COMMAND
    case $1 in
        bwrap) echo bubblewrap ;;
        cc) echo gcc libc6-dev ;;
        fsfreeze) echo util-linux ;;
        ip) echo iproute2 ;;
        mkfs.ext4) echo e2fsprogs ;;
        promtool) echo prometheus ;;
        venv) echo python3-venv ;;
        systemd-analyze) echo systemd ;;
        *) echo "$1" ;;
    esac
}

# Daemons of Debian live in /usr/sbin, which is not on everybody's path.
PATH=$PATH:/usr/sbin:/sbin

have() {
    case $1 in
        venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo && { sudo -n true 2>/dev/null || { [ -t 2 ] && ! in_ci; }; }; then
        sudo "$@"
    else
        echo "neither root nor sudo" >&2
        return 1
    fi
}

# Installs packages without starting the daemons in them: the tests start
# their own, on their own addresses.
install_packages() { # PACKAGE...
    have apt-get || { echo "no apt-get here" >&2; return 1; }
    # shellcheck disable=SC2016 # expanded by the inner shell
    as_root env DEBIAN_FRONTEND=noninteractive sh -ec '
        apt_get() { apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@"; }
        policy=/usr/sbin/policy-rc.d
        if [ ! -e $policy ]; then
            trap "rm -f $policy" EXIT
            printf "#!/bin/sh\nexit 101\n" >$policy
            chmod 755 $policy
        fi
        apt_get update
        apt_get install --yes --no-install-recommends "$@"
    ' install-packages "$@"
}

# Rust parts that a toolchain may lack.
complete_toolchain() {
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 && return
    have rustup && rustup component add rustfmt clippy
}

set_up() { # PART...
    local part need missing=()
    for part in "$@"; do
        for need in $(needs_of "$part"); do
            have "$need" || missing+=("$need")
        done
    done
    if [ ${#missing[@]} -gt 0 ]; then
        mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
        local packages=()
        for need in "${missing[@]}"; do
            read -ra more < <(package_of "$need")
            packages+=("${more[@]}")
        done
        mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
        if run_logged set-up install_packages "${packages[@]}"; then
            show ready set-up "installed ${packages[*]}, ${seconds} s"
        else
            # Not counted here: what lacks them says so itself.
            show missing set-up "cannot install ${packages[*]}; see $log"
        fi
    fi
    case " $* " in
        *' format '* | *' lint '* | *' pure '*)
            run_logged toolchain complete_toolchain || show missing set-up "rustfmt or clippy; see $log"
            ;;
    esac
}
