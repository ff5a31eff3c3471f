#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# `make check-power`: cuts the power of a virtual machine while a program works on a medium, and compares the medium with the operations
# that had returned. docs/TESTING.md describes it, docs/DURABILITY.md has figures. The last line has the totals.
#
#   POWER_SECONDS=900   how long
#   POWER_KERNEL=DIR    a kernel package, unpacked: DIR/boot/vmlinuz*, DIR/lib/modules. Without it, the one that Debian's
#                       linux-image-cloud-amd64 depends on is fetched by apt-get and unpacked in build/power
#   POWER_SEED=N        other random numbers
#   POWER_ONLY="..."    only these, as "ext4-1k:first xfs:plain"
#   MUTANT=N            the N-th barrier of the list below is left out, until a power cut shows it; MUTANT=all: each of them
#
# All files are in build/power. The log of a failure is kept in build/power/failed-*, and the command that repeats it is printed.
# build/power/syncs has a line "MODE OPERATION N M" where M operations made N syncs, to compare with the list of barriers.
. "$(dirname "$0")/lib.sh"
: "${POWER_SECONDS:=900}" "${POWER_SEED:=1}" "${POWER_ONLY=}" "${POWER_KERNEL=}" "${MUTANT=}"
# A round is a run of the guest, and a check of images of its log beside the next run.
: "${ROUND_SECONDS:=15}" "${ROUND_IMAGES:=600}"
POWER=$ROOT/build/power

# Sets, for the disk $1: fs, size, mkfs, guest_options of mount, host_options. The guest's kernel writes its journal every second, so
# that a file's length gets to the disk between two syncs too.
disk() {
    host_options="" guest_options="" mkfs=""
    case $1 in
    ext4*) fs=ext4 size=64M guest_options=commit=1 mkfs="mkfs.ext4 -q -F -J size=8 -E lazy_itable_init=0 -b" ;;
    xfs) fs=xfs size=320M host_options=nouuid mkfs="mkfs.xfs -q -f" ;;
    btrfs) fs=btrfs size=160M guest_options=commit=1 mkfs="mkfs.btrfs -q -f" ;;
    raw) fs=raw size=4M ;;
    esac
    case $1 in
    ext4-1k*) mkfs="$mkfs 1024" ;;
    ext4*) mkfs="$mkfs 4096" ;;
    esac
    case $1 in
    *-journal)
        guest_options=$guest_options,data=journal
        # Linux 6.1 writes a page of a mapped file to this journal while the program stores to it. With a checksum, which then does not
        # match, the file system could not be mounted.
        mkfs="$mkfs -O ^metadata_csum"
        ;;
    esac
}
disks="ext4 ext4-1k ext4-journal ext4-1k-journal xfs btrfs raw"

# As in power.h.
modes="first plain second static threads shared"

# The barriers that docs/FORMAT.md counts under "Order on the disk": the K-th sync of an operation that makes N.
mutants() {
    cat <<'END'
free:1/1 the publishing store of a free
alloc:1/1 the publishing store where a whole free block, or zeros at the end, are allocated
alloc:1/2 the rest of a free block of which a part is allocated
alloc:2/2 the publishing store where a part of a free block is allocated
growth:1/2 the marker of the slack where the file grows
growth:2/2 the publishing store where the file grows
shrink:1/3 the intent where a blob shrinks
shrink:2/3 the rest where a blob shrinks
shrink:3/3 the marker where a blob shrinks
grow:1/2 the rest where a blob grows in place
grow:2/2 the publishing store where a blob grows in place
move:1/3 data and intent of a move
move:2/3 the new block of a move
move:3/3 the old block of a move
free:1/2 the publishing store of a free that cuts the file
free:2/2 the last sync of a free that cuts the file
commit:1/2 the record of a transaction
commit:2/2 the publishing store of a transaction with a record
new:1/2 the bytes of new blobs of a transaction without a record
new:2/2 the publishing store of a transaction without a record
new:1/5 the rest behind the first log, where the first transaction is one without a record
new:2/5 the rest behind the second log
new:3/5 the rest behind the region
next:1/2 the changes of a transaction, which the next call brings to the disk
threads:1/3 every third sync while threads commit transactions
sync:1/1 the sync of a palloc_sync that does not cut the file, without PALLOC_SYNC
END
}

# ---------------------------------------------------------------------------------------------------------------------- what is needed

# need WHAT: ends the script, which can't do anything without.
need() {
    skip "power cuts" "needs $1"
    finish
    exit
}

look_for_what_is_needed() {
    [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || need "Linux on x86_64"
    [ -z "${TARGET-}" ] || need "a native build"
    [ "$(id -u)" -eq 0 ] || need "root, to mount images"
    [ -e /dev/loop-control ] || need "loop devices (/dev/loop-control)"
    have qemu-system-x86_64 || need "qemu-system-x86_64"
    have mkfs.ext4 || need "mkfs.ext4"
    have flock || need "flock"
    static_libc || need "a static C library"
    if have cpio; then
        cpio=cpio
    elif have busybox; then
        cpio="busybox cpio"
    else
        need "cpio or busybox"
    fi
    mkdir -p "$POWER"
    exec 9>"$POWER/lock"
    flock -n 9 || need "$POWER, which another check-power uses"
    if [ -z "$POWER_KERNEL" ]; then
        POWER_KERNEL=$POWER/kernel
        fetch_kernel >"$WORK/log" 2>&1 || need "POWER_KERNEL=DIR, or apt-get download linux-image-cloud-amd64 ($(tail -n 1 "$WORK/log"))"
    fi
    for vmlinuz in "$POWER_KERNEL"/boot/vmlinuz*; do
        [ -f "$vmlinuz" ] || need "$vmlinuz"
    done
}

# linux-image-cloud-amd64 itself is empty and depends on the package of the newest kernel.
fetch_kernel() {
    [ ! -d "$POWER_KERNEL/boot" ] || return 0
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    [ -n "$package" ] || return
    rm -rf "$POWER/fetched"
    mkdir -p "$POWER/fetched"
    (cd "$POWER/fetched" && apt-get download "$package" </dev/null && dpkg-deb -x "$package"*.deb unpacked && mv unpacked "$POWER_KERNEL")
    status=$?
    rm -rf "$POWER/fetched"
    return $status
}

# Whether a disk can be tried here; else sets `why`.
can() {
    disk "$1"
    [ -n "$mkfs" ] || return 0
    why="needs ${mkfs%% *}"
    have "${mkfs%% *}" || return
    why="this kernel has no $fs"
    grep -qw "$fs" /proc/filesystems || modprobe "$fs" 2>/dev/null
}

# ------------------------------------------------------------------------------------------------------------------------------- guest

# compile PROGRAM [FLAG...]
compile() {
    program=$1
    shift
    # shellcheck disable=SC2086  # flags are lists
    support && strict_cc "$@" "$ROOT/c_tests/power/$program.c" "$SUPPORT" $LDFLAGS "$LIB/libpalloc.a" $LIBS -o "$POWER/$program"
}

# Puts modules into the guest's /modules, under numbers, each after those that it needs.
put_modules() {
    for module in "$@"; do
        file=$(find "$POWER_KERNEL/lib/modules" -name "$module.ko*" -o -name "$(echo "$module" | tr _ -).ko*" | head -n 1)
        [ -n "$file" ] || continue # it is in the kernel
        case $file in
        *.xz) xz -dc "$file" ;;
        *.zst) zstd -dc "$file" ;;
        *) cat "$file" ;;
        esac >"$POWER/$module.ko"
        # shellcheck disable=SC2046  # a list; in a process of its own, for its variables
        (put_modules $(tr '\0' '\n' <"$POWER/$module.ko" | sed -n 's/^depends=//p' | tr , ' '))
        set -- "$POWER"/root/modules/*
        mv "$POWER/$module.ko" "$POWER/root/modules/$((100 + $#))-$module.ko"
    done
}

make_initrd() { # FS
    [ ! -f "$POWER/initrd.$1" ] || return 0
    rm -rf "$POWER/root"
    mkdir -p "$POWER/root/modules"
    for module in virtio_pci virtio_blk "$1"; do
        put_modules "$module"
    done
    cp "$POWER/guest" "$POWER/root/init" && (cd "$POWER/root" && find . | $cpio -o -H newc 2>/dev/null | gzip -1) >"$POWER/initrd.$1"
}

make_base() { # DISK
    [ ! -f "$POWER/base.$1" ] || return 0
    truncate -s "$size" "$POWER/base.$1" && { [ -z "$mkfs" ] || $mkfs "$POWER/base.$1" >/dev/null; }
}

# run_guest DISK MODE BUSY SEED LOG MUTANT SECONDS: with /dev/kvm, if the kernel reaches the first record with it.
run_guest() {
    disk "$1"
    make_initrd "$fs" && make_base "$1" || return
    for accelerator in $(cat "$POWER/accelerator" 2>/dev/null || echo kvm tcg); do
        case $accelerator in
        kvm) patience=20 ;;
        tcg) patience=300 ;;
        esac
        [ "$accelerator" = tcg ] || [ -w /dev/kvm ] || continue
        if "$POWER/disk" "$POWER/base.$1" "$5" "$POWER/socket" "$7" "$patience" \
            qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot -m 256 -smp 2 -accel "$accelerator" \
            -kernel "$vmlinuz" -initrd "$POWER/initrd.$fs" -serial "file:$POWER/console" \
            -append "console=ttyS0 quiet panic=-1 no_timer_check POWER_FS=$fs POWER_OPTIONS=$guest_options POWER_MODE=$2 POWER_BUSY=$3 POWER_SEED=$4 POWER_MUTANT=$6" \
            -drive "if=none,id=disk,format=raw,file=nbd:unix:$POWER/socket:exportname=disk" \
            -device virtio-blk-pci,drive=disk,discard=off,write-zeroes=off \
            -drive "if=none,id=records,format=raw,file=nbd:unix:$POWER/socket:exportname=records" \
            -device virtio-blk-pci,drive=records,discard=off,write-zeroes=off >"$POWER/qemu.log" 2>&1 </dev/null; then
            echo "$accelerator" >"$POWER/accelerator"
            return
        fi
    done
    cat "$POWER/qemu.log" "$POWER/console"
    return 1
}

# ------------------------------------------------------------------------------------------------------------------------------ images

# check_log DISK MODE SEED LOG: by several processes where a file system can be mounted several times.
check_log() {
    disk "$1"
    jobs=6
    [ "$fs" != btrfs ] || jobs=1
    "$POWER/images" "$POWER/base.$1" "$4" "$fs" "$host_options" "$2" "$3" "$POWER" "$ROUND_IMAGES" $jobs ${mutant:+mutant} >"$POWER/images.log" 2>&1 \
        </dev/null
}

# keep DISK MODE SEED LOG: what repeats the first failure of a log, or else makes the first image again that was not mounted.
keep() {
    kept=$((kept + 1))
    [ $kept -le 5 ] || return
    disk "$1"
    dir=$POWER/failed-$kept
    mkdir -p "$dir" && cp "$POWER/base.$1" "$dir/base" && cp "$4" "$dir/log" && cp "$POWER/images" "$POWER/images.log" "$dir"
    place=$(grep -e '^failed' -e '^unmounted' "$POWER/images.log" | sort -s -k 1,1 |
        sed -n -e '/^unmounted.* torn /d' -e 's/^[a-z]*: at \([0-9]* [a-z]* [0-9]*\):.*/\1/p' | head -n 1)
    [ -n "$place" ] || return
    repeat="'$dir/images' '$dir/base' '$dir/log' $fs '$host_options' $2 $3 '$dir' at $place"
    echo "    to repeat it: $repeat"
    eval "$repeat" >"$dir/repeated" 2>&1
}

# Appends the figures of a log to $POWER/results, a line for each kind of image:
# DISK MODE BUSY HOW IMAGES FAILURES UNMOUNTED REFUSED... CUTS KILLS
note() { # DISK MODE BUSY
    cuts=$(sed -n 's/^total cuts //p' "$POWER/images.log")
    awk -v key="$1 $2 $3" -v cuts="$cuts" '$1 == "how" { print key, $2, $4, $6, $8, $10, $11, $12, $13, $14, $2 == "all" ? cuts : 0, $2 == "all" }' \
        "$POWER/images.log" >>"$POWER/results"
    awk -v mode="$2" '$1 == "syncs" { print mode, $2, $3, $4 }' "$POWER/images.log" >>"$POWER/syncs"
}

# All disks in all modes, as DISK:MODE. There are 7 and 6, so in this order none comes twice. A block device is static as it is, and has no
# file beside it that would stay.
make_plan() { # MODE...
    plan=""
    for i in $(seq 0 41); do
        d=$(echo "$disks" | cut -d ' ' -f $((i % 7 + 1))) m=$(echo "$modes" | cut -d ' ' -f $((i % 6 + 1)))
        case " $* " in
        *" $m "*) ;;
        *) continue ;;
        esac
        case " $POWER_ONLY " in
        "  " | *" $d:$m "*) [ "$d:$m" = raw:first ] || [ "$d:$m" = raw:shared ] || ! can "$d" || plan="$plan $d:$m" ;;
        esac
    done
}

# The same of these only, unless POWER_ONLY has others.
make_plan_of() { # "DISK:MODE..."
    only=$POWER_ONLY
    POWER_ONLY=${only:-$1}
    make_plan first second
    POWER_ONLY=$only
}

# start_round: runs the guest for the next of the plan, in the background; sets `guest`.
start_round() {
    # shellcheck disable=SC2086  # a list
    set -- "" $plan
    shift $((round % ($# - 1) + 1))
    round_disk=${1%:*} round_mode=${1#*:} round_busy=$((round % 3 < 2)) round_seed=$((POWER_SEED * 1000 + round)) round_log=$POWER/log.$((round % 2))
    run_guest "$round_disk" "$round_mode" $round_busy $round_seed "$round_log" "$mutant" "$ROUND_SECONDS" >"$POWER/guest.log" 2>&1 &
    guest=$!
    round=$((round + 1))
}

# Waits for the guest of this round; 0 if there is a log of it.
end_round() {
    if wait "$guest"; then
        guest=""
        return
    fi
    guest=""
    [ -n "$mutant" ] || failures=$((failures + 1)) # no image shows it
    echo "failed: the guest of $round_disk, $round_mode ended too early"
    sed 's/^/    /' "$POWER/guest.log" | tail -n 20
    return 1
}

is_time_left() {
    [ "$(date +%s)" -lt "$end" ]
}

# Goes through the plan again and again for POWER_SECONDS; the next guest runs beside the check of a log. With a mutant, up to the first
# failure, and one after the other.
run_plan() { # [OPERATION:K/N]
    mutant=${1-}
    end=$(($(date +%s) + POWER_SECONDS))
    round=0 failures=0
    rm -f "$POWER/syncs"
    : >"$POWER/results"
    start_round
    while :; do
        end_round
        has_log=$?
        d=$round_disk m=$round_mode busy=$round_busy seed=$round_seed log=$round_log
        runs=0
        if [ -z "$mutant" ] && is_time_left; then
            start_round
            runs=1
        fi
        [ $has_log -ne 0 ] || check_round
        [ $runs -eq 0 ] || continue
        [ -n "$mutant" ] && [ $failures -eq 0 ] && is_time_left || return
        start_round
    done
}

# Checks the log `log` of disk `d` in mode `m`, and counts its failures.
check_round() {
    if ! check_log "$d" "$m" "$seed" "$log"; then
        failures=$((failures + $(grep -c '^failed' "$POWER/images.log")))
        if [ -z "$mutant" ]; then
            echo "failed: $d, $m"
            grep -v -e '^syncs' -e '^unmounted' "$POWER/images.log" | head -n 20 | sed 's/^/    /'
        fi
        keep "$d" "$m" "$seed" "$log"
    elif grep '^unmounted' "$POWER/images.log" | grep -qv ' torn '; then
        echo "not mounted: $d, $m"
        grep '^unmounted' "$POWER/images.log" | grep -v ' torn ' | head -n 3 | sed 's/^/    /'
        keep "$d" "$m" "$seed" "$log"
    fi
    note "$d" "$m" "$busy"
}

# ------------------------------------------------------------------------------------------------------------------------------- tables

tables() {
    {
        echo "disk mode images cuts kills failures unmounted"
        awk '{ key = $1 " " $2; images[key] += $5; failed[key] += $6; unmounted[key] += $7; cuts[key] += $13; kills[key] += $14 }
            END { for (key in images) print key, images[key], cuts[key], kills[key], failed[key], unmounted[key] }' "$POWER/results" | sort
        awk '{ images += $5; failed += $6; unmounted += $7; cuts += $13; kills += $14 }
            END { print "all", "", images, cuts, kills, failed, unmounted }' FS=' ' OFS=' ' "$POWER/results" | sed 's/^all /all -/'
    } | columns
    grep -q ' plain ' "$POWER/results" || return 0
    echo
    echo "Without PALLOC_SYNC, refused, by cause (c_tests/power/images.c):"
    {
        echo "disk write-back kept images creation sync beyond growth markers"
        awk '$2 == "plain" { key = $1 " " ($3 ? "always" : "seldom") " " $4; images[key] += $5; for (i = 0; i < 5; i++) refused[key, i] += $(8 + i) }
            END { for (key in images) print key, images[key], refused[key, 0], refused[key, 1], refused[key, 2], refused[key, 3], refused[key, 4] }' \
            "$POWER/results" | sort
    } | columns
}

columns() {
    awk '{ printf "%-16s", $1; for (i = 2; i <= NF; i++) printf " %10s", $i; printf "\n" }'
}

# ---------------------------------------------------------------------------------------------------------------------------- the checks

# The loss that needs no power cut: bytes are stored, synced, and read again when the cache was dropped. Blocks smaller than pages had it.
check_loss() {
    if run_guest ext4-1k loss 0 "$POWER_SEED" "$POWER/log.0" "" 300 >"$WORK/loss" 2>&1 && check_log ext4-1k loss 1 "$POWER/log.0" &&
        grep -q '^loss 0 of' "$POWER/images.log"; then
        pass
    else
        grep -E '^(loss|failed)' "$POWER/images.log" >>"$WORK/loss"
        fail "what was stored and synced is there when the cache was dropped" "$WORK/loss"
    fi
}

check_cuts() {
    # shellcheck disable=SC2086  # a list
    make_plan $modes
    run_plan
    tables
    for pair in $plan; do
        d=${pair%:*} m=${pair#*:}
        awk -v d="$d" -v m="$m" '$1 == d && $2 == m { images += $5; failed += $6; if ($4 != "torn") unmounted += $7 }
            END { if (unmounted) print unmounted " of " images " images were not mounted, without a torn sector"
                exit failed ? 1 : unmounted ? 2 : images ? 0 : 3 }' "$POWER/results" >"$WORK/why"
        case $? in
        0) pass ;;
        1) fail "power cuts on $d, $m" "$WORK/why" ;;
        2) skip "power cuts on $d, $m" "$(cat "$WORK/why")" ;;
        esac
    done
    [ "$failures" -eq 0 ] || [ "$failed" -gt 0 ] || fail "every guest ran"
}

check_mutants() {
    mutants | if [ "$MUTANT" = all ]; then cat; else sed -n "${MUTANT}p"; fi >"$POWER/mutants"
    while read -r barrier text; do
        case $barrier in
        sync:*) make_plan plain ;;
        commit:* | new:* | next:*) make_plan first static ;;
        threads:*) make_plan threads ;;
        growth:*) make_plan_of "ext4:first ext4-1k:second xfs:first ext4-1k:first ext4:second xfs:second" ;;
        free:*/2) make_plan_of "ext4-1k:second ext4:second xfs:second" ;;
        *) make_plan first second static ;;
        esac
        run_plan "$barrier"
        images=$(awk '{ n += $5 } END { print n + 0 }' "$POWER/results")
        if [ "$failures" -gt 0 ]; then
            pass
            echo "without $barrier, $text: shown by $failures of $images images, on $d, $m: $(sed -n 's/^failed: //p' "$POWER/images.log" | head -n 1)"
        else
            fail "without $barrier, $text: not found in $images images"
        fi
    done <"$POWER/mutants"
}

# Without this the guest would go on when the script is interrupted.
guest=""
trap '[ -z "$guest" ] || kill "$guest" 2>/dev/null; rm -rf "$WORK"' EXIT

look_for_what_is_needed
echo "== power cuts: $(basename "$vmlinuz")"
rm -rf "$POWER"/initrd.* "$POWER"/base.* "$POWER"/failed-* "$POWER/accelerator"
kept=0
if compile disk >"$WORK/log" 2>&1 && compile images >"$WORK/log" 2>&1 && compile guest -static >"$WORK/log" 2>&1; then
    for d in $disks; do
        can "$d" || skip "power cuts on $d" "$why"
    done
    if [ -n "$MUTANT" ]; then
        check_mutants
    else
        check_loss
        check_cuts
    fi
else
    fail "c_tests/power compiles" "$WORK/log"
fi
finish
