/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A linked structure in a file: a sorted list of numbers that grows and shrinks from run to run.
 *
 *     linked_list [FILE]       FILE is list.db if it is not given
 *
 * It shows three things:
 *
 * Links are offsets. Addresses differ from run to run, offsets do not. palloc_data() turns an offset into an address.
 *
 * palloc_first() finds the root again. The root was the first blob of the medium and is never freed, so no other blob can lie before it.
 *
 * A kill at any moment leaves a whole list. A node is complete before one store of eight bytes links it in, and one such store removes it
 * from the list before it is freed. A kill can leave a blob that no link leads to; the next start finds and frees it. (For power cuts, call
 * palloc_sync() before each such store, and after the last.)
 */
#include <palloc.h>
#include <stdio.h>
#include <stdlib.h>

#define MAGIC UINT64_C(0x6c697374726f6f74)

/* In the byte order of this machine. Choose a fixed byte order if other machines use the file. */
struct root {
    uint64_t magic; /* set once the rest is valid */
    uint64_t first; /* offset of the first node, 0 = none */
    uint64_t runs;
};

struct node {
    uint64_t next; /* offset, 0 = none */
    uint64_t number;
};

static void fail(void)
{
    fprintf(stderr, "%s\n", palloc_error());
    exit(1);
}

static void *at(struct palloc_t *pt, uint64_t offset)
{
    void *data = palloc_data(pt, offset);

    if (data == NULL)
        fail();
    return data;
}

/* The store that makes a change count, after everything that was written before it. */
static void commit(uint64_t *link, uint64_t offset)
{
    __atomic_store_n(link, offset, __ATOMIC_RELEASE);
}

static struct root *find_root(struct palloc_t *pt)
{
    uint64_t offset = palloc_first(pt);
    struct root *root;

    if (offset == 0 && (offset = palloc(pt, sizeof *root)) == 0)
        fail();
    root = at(pt, offset);
    if (root->magic != MAGIC) { /* new, or a kill came before it was filled: the bytes of a new blob are undefined */
        root->first = 0;
        root->runs = 0;
        commit(&root->magic, MAGIC);
    }
    return root;
}

static void insert(struct palloc_t *pt, struct root *root, uint64_t number)
{
    uint64_t *link = &root->first, offset = palloc(pt, sizeof(struct node));
    struct node *node;

    if (offset == 0)
        fail();
    node = at(pt, offset);
    while (*link != 0 && ((struct node *)at(pt, *link))->number < number)
        link = &((struct node *)at(pt, *link))->next;
    node->number = number;
    node->next = *link;
    commit(link, offset);
}

static void delete_first(struct palloc_t *pt, struct root *root)
{
    uint64_t offset = root->first;

    commit(&root->first, ((struct node *)at(pt, offset))->next);
    pfree(pt, offset);
}

static int is_linked(struct palloc_t *pt, struct root *root, uint64_t offset)
{
    uint64_t node;

    for (node = root->first; node != 0; node = ((struct node *)at(pt, node))->next)
        if (node == offset)
            return 1;
    return 0;
}

/* Frees blobs that no link leads to: a kill came between palloc() and the link, or between the unlink and pfree(). Returns their number. */
static int sweep(struct palloc_t *pt, struct root *root)
{
    uint64_t offset, next;
    int swept = 0;

    for (offset = palloc_next(pt, palloc_first(pt)); offset != 0; offset = next) { /* all but the root */
        next = palloc_next(pt, offset);
        if (!is_linked(pt, root, offset)) {
            pfree(pt, offset);
            swept++;
        }
    }
    return swept;
}

int main(int argc, char **argv)
{
    struct palloc_t *pt = palloc_init(argc > 1 ? argv[1] : "list.db", PALLOC_DYNAMIC);
    struct root *root;
    uint64_t node;
    int i, length = 0;

    if (pt == NULL)
        fail();
    root = find_root(pt);
    root->runs++;
    printf("run %llu, %d stray blobs freed\n", (unsigned long long)root->runs, sweep(pt, root));

    for (i = 0; i < 5; i++)
        insert(pt, root, (root->runs * 37 + (uint64_t)i * 29) % 100);
    for (node = root->first; node != 0; node = ((struct node *)at(pt, node))->next)
        length++;
    for (; length > 12; length--)
        delete_first(pt, root);

    for (node = root->first; node != 0; node = ((struct node *)at(pt, node))->next)
        printf("%llu at offset %llu\n", (unsigned long long)((struct node *)at(pt, node))->number, (unsigned long long)node);
    palloc_close(pt);
    return 0;
}
