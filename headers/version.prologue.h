/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * palloc_version.h: which version of libpalloc this is, for users of any of its headers. palloc.h
 * includes it.
 */
#define PALLOC_VERSION "@VERSION@"
#define PALLOC_VERSION_MAJOR @MAJOR@
#define PALLOC_VERSION_MINOR @MINOR@
#define PALLOC_VERSION_PATCH @PATCH@
