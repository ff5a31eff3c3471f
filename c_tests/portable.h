/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The system calls that the C tests use, by the names that they have in POSIX. On Windows the functions here stand in for them, as far as
 * tests need it; functions that are impossible there are left out, with their tests (#ifdef _WIN32).
 *
 *     fault_in(f, p)              whether f(p) is an access violation (on Windows by a handler, elsewhere in a forked child)
 *     run_self(args)              Windows: runs this program with these arguments, and returns its exit status
 *     start_self(args), kill_it   Windows: the same, not waited for; ended as by a kill
 *
 * To be included before any other header.
 */
#ifndef PORTABLE_H
#define PORTABLE_H

#ifndef _WIN32

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#else

#define _FILE_OFFSET_BITS 64
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <winternl.h>
#define PSAPI_VERSION 2
#include <psapi.h>
#undef far
#undef near
#undef small

#include <errno.h>
#include <fcntl.h>
#include <direct.h>
#include <io.h>
#include <process.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/utime.h>
#include <unistd.h>

#define O_CLOEXEC _O_NOINHERIT
#define O_DSYNC 0x1000000  /* only fcntl returns it */
#define O_NONBLOCK 0
#define SIGBUS SIGSEGV
#define SIGALRM SIGTERM
#define mkdir(path, mode) _mkdir(path)
#define pipe(ends) _pipe(ends, 4096, _O_BINARY)

/* Files are bytes, as everywhere; no dialogue when a program crashes. */
__attribute__((constructor)) static void portable_start_(void)
{
    _fmode = _O_BINARY;
    SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX);
}

static CRITICAL_SECTION portable_stdout_;

__attribute__((constructor)) static void portable_stdout_start_(void)
{
    InitializeCriticalSection(&portable_stdout_);
}

/* Only with `resolved` NULL. */
static inline char *realpath(const char *path, char *resolved)
{
    return _fullpath(resolved, path, 0);
}

static inline void flockfile(FILE *file)
{
    (void)file;
    EnterCriticalSection(&portable_stdout_);
}

static inline void funlockfile(FILE *file)
{
    (void)file;
    LeaveCriticalSection(&portable_stdout_);
}

static inline OVERLAPPED portable_at_(off_t at)
{
    OVERLAPPED place;

    memset(&place, 0, sizeof place);
    place.Offset = (DWORD)at;
    place.OffsetHigh = (DWORD)((uint64_t)at >> 32);
    return place;
}

/* As in POSIX, but that the position moves. */
static inline ssize_t pread(int fd, void *data, size_t size, off_t at)
{
    OVERLAPPED place = portable_at_(at);
    DWORD done = 0;

    if (ReadFile((HANDLE)_get_osfhandle(fd), data, (DWORD)size, &done, &place) || GetLastError() == ERROR_HANDLE_EOF)
        return (ssize_t)done;
    errno = GetLastError() == ERROR_ACCESS_DENIED || GetLastError() == ERROR_INVALID_HANDLE ? EBADF : EIO;
    return -1;
}

static inline ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    OVERLAPPED place = portable_at_(at);
    DWORD done = 0;

    if (WriteFile((HANDLE)_get_osfhandle(fd), data, (DWORD)size, &done, &place))
        return (ssize_t)done;
    errno = GetLastError() == ERROR_ACCESS_DENIED || GetLastError() == ERROR_INVALID_HANDLE ? EBADF : EIO;
    return -1;
}

enum { F_GETFD, F_GETFL, FD_CLOEXEC = 1 };

static inline int fcntl(int fd, int what)
{
    HANDLE handle = (HANDLE)_get_osfhandle(fd);
    DWORD flags = 0, mode = 0;
    IO_STATUS_BLOCK status;

    if (handle == INVALID_HANDLE_VALUE || !GetHandleInformation(handle, &flags)) {
        errno = EBADF;
        return -1;
    }
    if (what == F_GETFD)
        return flags & HANDLE_FLAG_INHERIT ? 0 : FD_CLOEXEC;
    NtQueryInformationFile(handle, &status, &mode, sizeof mode, (FILE_INFORMATION_CLASS)16 /* FileModeInformation */);
    return (WriteFile(handle, "", 0, &flags, NULL) ? O_RDWR : O_RDONLY) | (mode & 2 /* FILE_WRITE_THROUGH */ ? O_DSYNC : 0);
}

/* A hard link. */
static inline int link(const char *from, const char *to)
{
    return CreateHardLinkA(to, from, NULL) ? 0 : -1;
}

enum { PROT_NONE = 0, PROT_READ = 1, PROT_WRITE = 2, PROT_EXEC = 4, MAP_PRIVATE = 1, MAP_ANONYMOUS = 2, MAP_NORESERVE = 4 };
#define MAP_FAILED ((void *)-1)

/* Pages that may be executed may be written. */
static inline DWORD portable_access_(int protect)
{
    return protect & PROT_EXEC    ? PAGE_EXECUTE_READWRITE
           : protect & PROT_WRITE ? PAGE_READWRITE
           : protect & PROT_READ  ? PAGE_READONLY
                                  : PAGE_NOACCESS;
}

/* Memory only, no files. */
static inline void *mmap(void *at, size_t size, int protect, int flags, int fd, off_t offset)
{
    void *map = VirtualAlloc(at, size, MEM_RESERVE | MEM_COMMIT, portable_access_(protect));

    (void)flags, (void)fd, (void)offset;
    return map != NULL ? map : MAP_FAILED;
}

/* All that one mmap gave. */
static inline int munmap(void *at, size_t size)
{
    (void)size;
    return VirtualFree(at, 0, MEM_RELEASE) ? 0 : -1;
}

static inline int mprotect(void *at, size_t size, int protect)
{
    DWORD before;

    return VirtualProtect(at, size, portable_access_(protect), &before) ? 0 : -1;
}

enum { _SC_PAGESIZE };

static inline long sysconf(int name)
{
    SYSTEM_INFO info;

    (void)name;
    GetSystemInfo(&info);
    return (long)info.dwPageSize;
}

static inline unsigned alarm(unsigned seconds)
{
    return seconds - seconds; /* run.sh has a limit of its own */
}

/* ------------------------------------------------------------------------------------------------------------------------- faults */

static void *portable_back_[5];
static volatile LONG portable_faulted_;
static DWORD portable_thread_;

static void portable_return_(void)
{
    __builtin_longjmp(portable_back_, 1);
}

static LONG CALLBACK portable_on_fault_(EXCEPTION_POINTERS *fault)
{
    if (fault->ExceptionRecord->ExceptionCode != EXCEPTION_ACCESS_VIOLATION || GetCurrentThreadId() != portable_thread_)
        return EXCEPTION_CONTINUE_SEARCH;
    portable_faulted_ = 1;
    fault->ContextRecord->Rsp = (fault->ContextRecord->Rsp & ~(DWORD64)15) - 8 - 1024;
    fault->ContextRecord->Rip = (DWORD64)(uintptr_t)portable_return_;
    return EXCEPTION_CONTINUE_EXECUTION;
}

__attribute__((noinline, unused)) static int fault_in(int (*f)(void *), void *p)
{
    void *handler = AddVectoredExceptionHandler(1, portable_on_fault_);

    portable_thread_ = GetCurrentThreadId();
    portable_faulted_ = 0;
    if (__builtin_setjmp(portable_back_) == 0)
        f(p);
    portable_thread_ = 0;
    RemoveVectoredExceptionHandler(handler);
    return portable_faulted_;
}

/* ---------------------------------------------------------------------------------------------------------------------- processes */

static inline HANDLE start_self(const char *args)
{
    char command[4096], path[2048];
    STARTUPINFOA start;
    PROCESS_INFORMATION process;

    memset(&start, 0, sizeof start);
    start.cb = sizeof start;
    GetModuleFileNameA(NULL, path, sizeof path);
    snprintf(command, sizeof command, "\"%s\" %s", path, args);
    fflush(stdout);
    if (!CreateProcessA(path, command, NULL, NULL, TRUE, 0, NULL, NULL, &start, &process))
        return NULL;
    CloseHandle(process.hThread);
    return process.hProcess;
}

/* The exit status. */
static inline int wait_for(HANDLE process)
{
    DWORD status = 255;

    if (process == NULL)
        return 255;
    WaitForSingleObject(process, INFINITE);
    GetExitCodeProcess(process, &status);
    CloseHandle(process);
    return (int)status;
}

static inline int run_self(const char *args)
{
    return wait_for(start_self(args));
}

enum { KILLED = 99 };

/* At once, whatever it is at. Returns KILLED, unless it had ended by itself. */
static inline int kill_it(HANDLE process)
{
    TerminateProcess(process, KILLED);
    return wait_for(process);
}

#endif
#endif
