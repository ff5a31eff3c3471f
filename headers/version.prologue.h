/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * palloc_version.h: which version of libpalloc this is, for users of any of its headers. palloc.h
 * includes it.
 *
 *   #include <palloc_version.h>
 *   #include <string.h>
 *
 *   int main(void)
 *   {
 *       return strcmp(palloc_version(), PALLOC_VERSION) == 0 ? 0 : 1;
 *   }
 */
#define PALLOC_VERSION "@VERSION@"
#define PALLOC_VERSION_MAJOR @MAJOR@
#define PALLOC_VERSION_MINOR @MINOR@
#define PALLOC_VERSION_PATCH @PATCH@
