/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The version that the header names is that of the library. */
#include <palloc_version.h>
#include <stdio.h>

#define TAP_ERROR_TEXT() ""
#include "tap.h"

int main(void)
{
    char parts[64];

    TEST("palloc_version-is-PALLOC_VERSION");
    CHECK_STR(palloc_version(), PALLOC_VERSION);
    TEST("the-numbers-are-the-parts-of-PALLOC_VERSION");
    snprintf(parts, sizeof parts, "%d.%d.%d", PALLOC_VERSION_MAJOR, PALLOC_VERSION_MINOR, PALLOC_VERSION_PATCH);
    CHECK_STR(parts, PALLOC_VERSION);
    return tap_done();
}
