/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A file that defines VMEM_IMPLEMENTATION sets an error handler before main. */
#if defined(VMEM_IMPLEMENTATION) && !defined(LIBPALLOC_VMEM_IMPLEMENTATION)
#define LIBPALLOC_VMEM_IMPLEMENTATION
/* The original's implementation includes these, and programs rely on it. */
#include <errno.h>
#include <string.h>
#ifdef _WIN32
#include <windows.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif
#if !defined(VMEM_NO_ERROR_CHECKING) && (defined(VMEM_ON_ERROR) || defined(VMEM_ASSERT) || !defined(NDEBUG))
#if !defined(VMEM_ON_ERROR) && !defined(VMEM_ASSERT)
#include <assert.h>
#endif
#ifdef __cplusplus
extern "C" {
#endif

static void vmem_handle_error_(const char *message)
{
    (void)message;
#if defined(VMEM_ON_ERROR)
    VMEM_ON_ERROR(message);
#elif defined(VMEM_ASSERT)
    VMEM_ASSERT(0 && message);
#else
    assert(0 && message);
#endif
}

#if defined(__GNUC__)
__attribute__((constructor)) static void vmem_install_handler_(void)
{
    vmem_set_error_handler(vmem_handle_error_);
}
#elif defined(__cplusplus)
static const vmem_error_fn vmem_installed_handler_ = vmem_set_error_handler(vmem_handle_error_);
#elif defined(_MSC_VER)
static void __cdecl vmem_install_handler_(void)
{
    vmem_set_error_handler(vmem_handle_error_);
}
#pragma section(".CRT$XCU", read)
__declspec(allocate(".CRT$XCU")) static void(__cdecl *vmem_installed_handler_)(void) = vmem_install_handler_;
#else
#error "vmem.h does not know how this compiler runs code before main: call vmem_set_error_handler instead"
#endif

#ifdef __cplusplus
}
#endif
#endif
#endif
