/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <palloc.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    struct palloc_t *pt = palloc_init("uses.pba", PALLOC_DYNAMIC);
    uint64_t ptr = pt != NULL ? palloc(pt, 4) : 0;

    printf("palloc %s: %s\n", palloc_version(), ptr != 0 ? "works" : palloc_error());
    palloc_close(pt);
    return ptr != 0 && strcmp(palloc_version(), PALLOC_VERSION) == 0 ? 0 : 1;
}
