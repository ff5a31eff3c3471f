/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A program that includes this, as its first header, can stop at each store of the library into a medium: on Linux and x86, where it
 * defines CAN_TRAP. While the trap is armed the mapping of the file is read-only, so each store into it is a fault: the handler calls
 * before_store(), lets that one instruction run, and calls after_store(). The program defines these two. The mmap of the library is
 * defined here.
 */
#ifndef STORE_TRAP_H
#define STORE_TRAP_H

#if defined(__linux__)
#undef _FILE_OFFSET_BITS /* the functions defined here are named as they are */
#endif
#if defined(__linux__) && (defined(__x86_64__) || defined(__i386__))
#define CAN_TRAP 1

#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static void before_store(void);
static void after_store(void);

static struct {
    volatile int is_armed;
    uint8_t *base;   /* where the library has mapped the file */
    size_t watched; /* so many bytes of it are read-only while the trap is armed */
} store_trap;

static void trap_protect(int protection)
{
    if (store_trap.base != NULL && mprotect(store_trap.base, store_trap.watched, protection) != 0)
        _exit(20);
}

static void trap_on_fault(int number, siginfo_t *info, void *context)
{
    ucontext_t *machine = context;
    uint8_t *at = info->si_addr, *base = store_trap.base;

    (void)number;
    if (!store_trap.is_armed || base == NULL || at < base || at >= base + store_trap.watched) {
        signal(SIGSEGV, SIG_DFL); /* a fault of another kind: the instruction is repeated, and ends the program */
        return;
    }
    before_store();
    trap_protect(PROT_READ | PROT_WRITE);
    machine->uc_mcontext.gregs[REG_EFL] |= 0x100; /* trap after one instruction */
}

static void trap_on_step(int number, siginfo_t *info, void *context)
{
    ucontext_t *machine = context;

    (void)number;
    (void)info;
    machine->uc_mcontext.gregs[REG_EFL] &= ~0x100;
    trap_protect(PROT_READ);
    after_store();
}

static void trap_arm(void)
{
    store_trap.is_armed = 1;
    trap_protect(PROT_READ);
}

static void trap_disarm(void)
{
    store_trap.is_armed = 0;
    trap_protect(PROT_READ | PROT_WRITE);
}

/* Prepares this process. The medium whose first `watched` bytes are to be watched is opened afterwards. */
static void trap_install(size_t watched)
{
    struct sigaction action;

    memset(&store_trap, 0, sizeof store_trap);
    store_trap.watched = watched;
    memset(&action, 0, sizeof action);
    action.sa_flags = SA_SIGINFO;
    action.sa_sigaction = trap_on_fault;
    sigaction(SIGSEGV, &action, NULL);
    action.sa_sigaction = trap_on_step;
    sigaction(SIGTRAP, &action, NULL);
}

/* The library's mappings are made here. */
void *mmap64(void *address, size_t size, int protection, int flags, int fd, off64_t offset)
{
#ifdef SYS_mmap2
    void *at = (void *)(uintptr_t)syscall(SYS_mmap2, address, size, protection, flags, fd, offset >> 12);
#else
    void *at = (void *)(uintptr_t)syscall(SYS_mmap, address, size, protection, flags, fd, offset);
#endif

    if (at != MAP_FAILED && (flags & MAP_SHARED) != 0 && fd >= 0 && (protection & PROT_WRITE) != 0 && offset == 0) {
        store_trap.base = at;
        if (store_trap.is_armed)
            trap_protect(PROT_READ);
    }
    return at;
}

#ifndef mmap64 /* with musl another word for mmap */
void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    return mmap64(address, size, protection, flags, fd, offset);
}
#endif
#endif

#endif
