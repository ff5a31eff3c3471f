/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Both generations of palloc in one source file. Each header refuses the other one, as the macros of finwo/palloc.h have the names of
 * functions of palloc.h. Here these macros are undone: palloc_init() is that of palloc.h, palloc_fd_init() the other one.
 */
#ifndef BOTH_GENERATIONS_H
#define BOTH_GENERATIONS_H

#include <finwo/palloc.h>
#undef palloc_open
#undef palloc_init
#undef palloc_close
#undef palloc
#undef pfree
#undef palloc_size
#undef palloc_next

#undef LIBPALLOC_FINWO_PALLOC_H
#include <palloc.h>
#define LIBPALLOC_FINWO_PALLOC_H

#endif
