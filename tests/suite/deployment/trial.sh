#!/bin/bash
# What an administrator does with the package, on a Debian that systemd has booted. Runs inside; /trial is shared with the test.
set -u
export LC_ALL=C HOME=/root GIT_TERMINAL_PROMPT=0 GIT_CONFIG_COUNT=3 PAGER=cat SYSTEMD_PAGER=cat
export GIT_CONFIG_KEY_0=user.name GIT_CONFIG_VALUE_0=a GIT_CONFIG_KEY_1=user.email GIT_CONFIG_VALUE_1=a@example.org
# For root's own look at repositories that are gitd's; services do not inherit it.
export GIT_CONFIG_KEY_2=safe.directory GIT_CONFIG_VALUE_2='*'
cd /root
grep -qs localhost /etc/hosts || echo '127.0.0.1 localhost' >>/etc/hosts
. /etc/os-release

# Each step is one line of the transcript; the output of one that fails follows it.
step() {
    local what=$1 output
    shift
    if output=$("$@" 2>&1); then
        printf 'ok      %s\n' "$what"
    else
        # What the journal says about it, without what it says of every client.
        journalctl --no-pager -n 2000 -u 'gitd*' | grep -vE '\] (Connection from|Extended attribute|Request |\[[0-9]+\] Disconnected,) ?' | tail -n 40
        printf 'FAILED  %s: %s\n%s\n' "$what" "$*" "$output"
        exit 1
    fi
}

not() { ! "$@"; }
heard() { journalctl -q -u "$1" -o cat | grep -E "$2"; }
# The journal is written a moment after the event.
eventually() { local i; for i in {1..100}; do "$@" && return; sleep 0.1; done; "$@"; }
no_failed_unit() { local failed; failed=$(systemctl --failed --plain --no-legend 'gitd*'); [[ -z $failed ]] || { echo "$failed"; false; }; }
has() { [[ $(git -C "$1" rev-parse HEAD) == $(git -C /var/lib/gitd/project.git rev-parse HEAD) ]]; }
clones() { rm -rf copy && git clone -q "$@" copy && has copy; }
refused() { not git ls-remote "$1" 2>error && { grep "$2" error || { cat error; false; }; }; }
options() { printf 'GITD_OPTIONS="%s"\n' "$1" >/etc/default/gitd; }
drop_in() { mkdir -p "/etc/systemd/system/$1.d" && cat >"/etc/systemd/system/$1.d/trial.conf" && systemctl daemon-reload; }

repository() {
    runuser -u gitd -- git init -q --bare -b main "/var/lib/gitd/$1" &&
        tree=$(git -C /var/lib/gitd/$1 hash-object -w -t tree /dev/null) &&
        commit=$(git -C /var/lib/gitd/$1 commit-tree -m one "$tree") &&
        git -C /var/lib/gitd/$1 update-ref refs/heads/main "$commit" &&
        chown -R gitd: "/var/lib/gitd/$1"
}

# Lists for as long as the file is there; a line for each failure, and at the end the number.
load() {
    local count=0
    while [[ -e loaded ]]; do
        git ls-remote -q git://localhost/project.git >/dev/null 2>>lost || echo lost >>lost
        count=$((count + 1))
    done
    echo "$count" >>listed
}

restarts_under_load() {
    rm -f lost listed && touch loaded lost
    local i pids=()
    for i in 1 2 3 4; do load & pids+=($!); done
    local status=0
    for i in 1 2 3 4 5; do
        # So many starts in ten seconds are more than systemd allows.
        sleep 0.5; systemctl reset-failed gitd.service; systemctl restart gitd.service || status=$?
    done
    sleep 0.5
    rm loaded
    wait "${pids[@]}"
    ((status == 0)) || return
    cat lost
    (($(paste -sd+ listed) >= 40)) && [[ ! -s lost ]]
}

echo "Debian $VERSION_ID, $(systemctl --version | head -n 1), $(git --version)"

step 'the package installs' dpkg -i /trial/gitd.deb
step 'its user exists' getent passwd gitd
step 'nothing is enabled' not systemctl is-enabled gitd.service gitd.socket gitd-inetd.socket
step 'nothing runs' not systemctl is-active gitd.service gitd.socket gitd-inetd.socket
step 'the units are well-formed' systemd-analyze verify --man=no gitd.service gitd.socket gitd-inetd.socket gitd-inetd@.service
step 'exposure is 1.5 at most' systemd-analyze security --threshold=15 gitd.service
systemd-analyze security gitd.service | tail -n 1
systemd-analyze security gitd-inetd@.service | tail -n 1
step 'a repository is made as README.Debian says' repository project.git
step 'and one that is not exported' repository secret.git
touch /var/lib/gitd/project.git/git-daemon-export-ok

options '--base-path=/var/lib/gitd --verbose --informative-errors'
step 'the socket is enabled' systemctl enable --now gitd.socket
step 'the service waits for a client' not systemctl is-active gitd.service
step 'a clone over IPv4' clones git://127.0.0.1/project.git
step 'a clone over IPv6' clones git://[::1]/project.git
step 'the service runs' systemctl is-active gitd.service
step 'the journal knows whose lines they are' eventually heard gitd.service "Disconnected, client 127.0.0.1:[0-9]+, upload-pack '/project.git'"
step 'the manager hears how many there were' eventually sh -c "systemctl show -P StatusText gitd.service | grep ' 2 clients since'"
step 'a refusal says why' refused git://localhost/secret.git 'repository not exported: /secret.git'
step 'the log says what to do about it' eventually heard gitd.service 'to export it: touch'
step 'which it calls an error' sh -c "journalctl -q -u gitd.service -p err -o cat | grep 'to export it: touch'"
step 'and nothing else' not sh -c "journalctl -q -u gitd.service -p err -o cat | grep 'Connection from'"
step 'a refusal fails no unit' no_failed_unit

printf '[Service]\nPrivateNetwork=yes\n' | drop_in gitd.service
step 'the service restarts without a network' systemctl restart gitd.service
step 'and serves through the socket all the same' clones git://127.0.0.1/project.git
systemd-analyze security gitd.service | tail -n 1

git -C copy commit -q --allow-empty -m two
step 'no push is taken' not git -C copy push -q git://localhost/project.git HEAD:main
git -C /var/lib/gitd/project.git config daemon.receivepack true
step 'a read-only service cannot take one where it is allowed' not git -C copy push -q git://localhost/project.git HEAD:main
sed 's:^#\([A-Z]\):\1:; s:/srv/git:/var/lib/gitd:' /usr/share/doc/gitd/examples/push.conf | drop_in gitd.service
step 'the service restarts' systemctl restart gitd.service
step 'with the drop-in it takes the push' git -C copy push -q git://localhost/project.git HEAD:main
step 'which has arrived' has copy

step 'restarts under load lose no request' restarts_under_load
printf '        %d requests over 5 restarts, none lost\n' "$(($(paste -sd+ listed)))"
step 'the watchdog is content' [ "$(systemctl show -P NRestarts gitd.service)" = 0 ]

if systemctl --version | awk 'NR == 1 { exit $2 < 257 }'; then
    printf '[Socket]\nSocketProtocol=mptcp\n' | drop_in gitd.socket
    options '--base-path=/var/lib/gitd --verbose --mptcp=require'
    systemctl stop gitd.socket gitd.service
    step 'the socket becomes one of Multipath TCP' systemctl start gitd.socket
    step 'a clone by gitd-connect' env GIT_PROXY_COMMAND=gitd-connect bash -c "$(declare -f clones has); clones git://127.0.0.1/project.git"
    step 'goes by Multipath TCP' eventually heard gitd.service 'mptcp, 1 path'
    step 'a clone by git goes by TCP' clones git://127.0.0.1/project.git
    rm -r /etc/systemd/system/gitd.socket.d
    options '--base-path=/var/lib/gitd --verbose --informative-errors'
    systemctl daemon-reload
fi

step 'all stops' systemctl stop gitd.socket gitd.service
step 'SIGTERM is a success' [ "$(systemctl show -P Result gitd.service)" = success ]
step 'the port is free' not git ls-remote git://localhost/project.git

options '--base-path=/var/lib/gitd --verbose --listen=127.0.0.1 --listen=unix:/run/gitd/gitd.sock --socket-mode=600'
step 'the service starts without the socket unit' systemctl start gitd.service
step 'and listens by itself' clones git://127.0.0.1/project.git
step 'on a Unix socket too' env GIT_PROXY_COMMAND=gitd-connect GITD_SOCKET=/run/gitd/gitd.sock bash -c "$(declare -f clones has); clones git://x/project.git"
step 'it stops' systemctl stop gitd.service
options '--base-path=/nonexistent'
step 'a service that cannot start says so' not systemctl start gitd.service
step 'in the journal' eventually heard gitd.service "fatal: base-path '/nonexistent' does not exist"
systemctl stop gitd.service
systemctl reset-failed gitd.service

options '--base-path=/var/lib/gitd --verbose'
step 'one process for each client' systemctl start gitd-inetd.socket
step 'a clone over IPv4' clones git://127.0.0.1/project.git
step 'a clone over IPv6' clones git://[::1]/project.git
step 'a refusal' refused git://localhost/secret.git 'access denied or repository not exported'
step 'the journal has the address, without brackets' eventually heard 'gitd-inetd@*' 'Connection from ::1:[0-9]+'
step 'a refusal fails no unit' no_failed_unit
step 'it stops' systemctl stop gitd-inetd.socket

step 'git daemon is diverted' dpkg-divert --local --rename --add /usr/lib/git-core/git-daemon
ln -s /usr/bin/gitd /usr/lib/git-core/git-daemon
step 'git daemon is gitd' bash -c 'git daemon --version | grep ^gitd'
step 'an update of git keeps it so' dpkg -i /trial/git.deb
step 'git daemon is still gitd' bash -c 'git daemon --version | grep ^gitd'
rm /usr/lib/git-core/git-daemon
step 'the diversion is undone' dpkg-divert --local --rename --remove /usr/lib/git-core/git-daemon
step "git daemon is git's own" bash -c 'git daemon --version 2>&1 | grep "usage: git daemon"'

systemctl enable -q --now gitd.socket
git ls-remote -q git://localhost/project.git >/dev/null
rm -r /etc/systemd/system/gitd.service.d
step 'the package is removed' dpkg -r gitd
step 'nothing runs' not systemctl is-active gitd.service gitd.socket
step 'its configuration stays' test -e /etc/default/gitd
step 'the package is purged' dpkg -P gitd
step 'nothing of it is left' not bash -c 'find /etc /usr /run /var/lib/systemd \( -name gitd -o -name "gitd[-.@]*" \) ! -path "*/dpkg/*" | grep .'
step 'the repositories are' test -e /var/lib/gitd/project.git/HEAD
step 'no unit has failed' no_failed_unit
echo 'all is well'
