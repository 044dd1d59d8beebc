#!/bin/sh
# qemu-user-static 7.2 of Debian 12, running a program for 64-bit ARM that has one thread and counts the threads of its process.
#
# One would guess: /proc/self/task has one entry, as on an ARM board, since user-mode emulation gives a program its own /proc/self/maps, exe and
# cmdline.
# Seen: two entries, and "Threads: 2" in /proc/self/status. The second is QEMU's own. A program or library that asks /proc whether it is alone, as one
# does before it changes its environment or forks, is told that it is not, and takes another way under emulation (in a container for
# another processor, for instance) than on the device.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get -qq download qemu-user-static=1:7.2+dfsg-7+deb12u18+b3 >/dev/null
dpkg-deb -x qemu-user-static_*.deb qemu
python3 -m venv python
python/bin/pip install --quiet --disable-pip-version-check ziglang==0.17.1
cat >threads.c <<'C'
#include <dirent.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    int entries = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *task; tasks && (task = readdir(tasks));) entries += task->d_name[0] != '.';
    char line[256] = "", told[256] = "";
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (!strncmp(line, "Threads:", 8)) strcpy(told, line);
    printf("%d entries of /proc/self/task, %s", entries, told);
    return 0;
}
C
export ZIG_GLOBAL_CACHE_DIR="$folder/cache" ZIG_LOCAL_CACHE_DIR="$folder/cache"
python/bin/python -m ziglang cc -target x86_64-linux-musl -o here threads.c
python/bin/python -m ziglang cc -target aarch64-linux-musl -o arm threads.c
here=$(./here)
arm=$(qemu/usr/bin/qemu-aarch64-static ./arm)
qemu/usr/bin/qemu-aarch64-static --version | head -n 1
echo "without emulation: $here"
echo "under emulation:   $arm"
tab=$(printf '\t')
[ "$here" = "1 entries of /proc/self/task, Threads:${tab}1" ]
[ "$arm" = "2 entries of /proc/self/task, Threads:${tab}2" ]
