/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A hash table in a file: keys and values are strings.
 *
 *     hash_table [FILE]                      FILE is table.db if it is not given; some changes, and a check
 *     hash_table FILE set KEY VALUE          hash_table FILE get KEY          hash_table FILE delete KEY
 *
 * Each change is one transaction: a new entry is allocated, filled and linked in, an old one is taken out and freed, the count is right, and
 * when the table is full it gets twice as many buckets, all at once. Kill the program at any moment: check() finds whole chains, each entry
 * in its bucket, the right count, and no blob that does not belong to the table.
 *
 *   root     buckets: offset of the array, how many there are, how many entries
 *   array    for each bucket the offset of its first entry, 0 if it is empty
 *   entry    the offset of the next one; hash; key and value, each with its NUL
 */
#include <palloc.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct root {
    uint64_t buckets, bucket_count, entry_count;
};

struct entry {
    uint64_t next, hash;
    uint32_t key_size, value_size; /* with their NULs */
    char text[];
};

static struct palloc_t *pt;
static uint64_t root_at;

static void fail(void)
{
    fprintf(stderr, "%s\n", palloc_error());
    exit(1);
}

static void *at(uint64_t offset)
{
    void *data = palloc_data(pt, offset);

    if (data == NULL)
        fail();
    return data;
}

/* 0, an offset or a pointer is what the functions of palloc return when they fail. */
static void must(int good)
{
    if (!good)
        fail();
}

static void store(struct palloc_tx *tx, uint64_t offset, uint64_t value)
{
    must(palloc_tx_store(tx, offset, &value, sizeof value) == 0);
}

static uint64_t hash_of(const char *key)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    while (*key != '\0')
        hash = (hash ^ (unsigned char)*key++) * UINT64_C(0x100000001b3);
    return hash ^ hash >> 32;
}

static void open_table(const char *path)
{
    pt = palloc_init(path, PALLOC_DYNAMIC);
    if (pt == NULL)
        fail();
    root_at = palloc_root(pt, sizeof(struct root)); /* of zeros, if the medium is new */
    if (root_at == 0)
        fail();
    if (((struct root *)at(root_at))->buckets == 0) { /* the first buckets: all of that, or nothing */
        struct palloc_tx *tx = palloc_begin(pt);
        struct root root = {0, 4, 0};
        must(tx != NULL);
        root.buckets = palloc_tx_alloc(tx, 4 * sizeof(uint64_t));
        must(root.buckets != 0);
        memset(palloc_tx_data(tx, root.buckets), 0, 4 * sizeof(uint64_t));
        must(palloc_tx_store(tx, root_at, &root, sizeof root) == 0 && palloc_commit(tx) == 0);
    }
}

/* The place that leads to the entry with this key, or the one where a chain without it ends. */
static uint64_t find(const char *key, uint64_t hash)
{
    struct root *root = at(root_at);
    uint64_t link = root->buckets + hash % root->bucket_count * sizeof(uint64_t);
    uint64_t offset = ((uint64_t *)at(root->buckets))[hash % root->bucket_count];

    while (offset != 0) {
        struct entry *entry = at(offset);
        if (entry->hash == hash && strcmp(entry->text, key) == 0)
            break;
        link = offset + offsetof(struct entry, next);
        offset = entry->next;
    }
    return link;
}

static uint64_t load(uint64_t offset) /* in a blob, whichever: palloc_data is asked for starts of blobs only */
{
    struct root *root = at(root_at);
    uint64_t bucket = (offset - root->buckets) / sizeof(uint64_t);

    if (offset >= root->buckets && bucket < root->bucket_count)
        return ((uint64_t *)at(root->buckets))[bucket];
    return ((struct entry *)at(offset - offsetof(struct entry, next)))->next;
}

static const char *get(const char *key)
{
    uint64_t offset = load(find(key, hash_of(key)));

    return offset != 0 ? ((struct entry *)at(offset))->text + ((struct entry *)at(offset))->key_size : NULL;
}

/* Twice as many buckets: each chain is divided into two. The old array is freed, and all links change, in one step. */
static void grow(void)
{
    struct palloc_tx *tx = palloc_begin(pt);
    struct root *root = at(root_at);
    uint64_t count = 2 * root->bucket_count, offset, new_at, i;
    uint64_t *old = at(root->buckets), *buckets;

    must(tx != NULL);
    new_at = palloc_tx_alloc(tx, (size_t)count * sizeof *buckets);
    must(new_at != 0);
    buckets = palloc_tx_data(tx, new_at);
    memset(buckets, 0, (size_t)count * sizeof *buckets);
    for (i = 0; i < root->bucket_count; i++)
        for (offset = old[i]; offset != 0; offset = ((struct entry *)at(offset))->next) {
            uint64_t *bucket = &buckets[((struct entry *)at(offset))->hash % count];
            store(tx, offset + offsetof(struct entry, next), *bucket); /* done by the commit: the loop still sees the old chain */
            *bucket = offset;
        }
    must(palloc_tx_free(tx, root->buckets) == 0);
    store(tx, root_at + offsetof(struct root, buckets), new_at);
    store(tx, root_at + offsetof(struct root, bucket_count), count);
    must(palloc_commit(tx) == 0);
}

/* Inserts, or replaces the value. */
static void set(const char *key, const char *value)
{
    struct root *root = at(root_at);
    uint64_t hash = hash_of(key), link, old, offset;
    size_t key_size = strlen(key) + 1, value_size = strlen(value) + 1;
    struct palloc_tx *tx;
    struct entry *entry;

    if (root->entry_count >= root->bucket_count)
        grow();
    link = find(key, hash);
    old = load(link);
    tx = palloc_begin(pt);
    must(tx != NULL);
    offset = palloc_tx_alloc(tx, sizeof *entry + key_size + value_size);
    must(offset != 0);
    entry = palloc_tx_data(tx, offset);
    entry->next = old != 0 ? ((struct entry *)at(old))->next : 0;
    entry->hash = hash;
    entry->key_size = (uint32_t)key_size;
    entry->value_size = (uint32_t)value_size;
    memcpy(entry->text, key, key_size);
    memcpy(entry->text + key_size, value, value_size);
    store(tx, link, offset);
    if (old != 0)
        must(palloc_tx_free(tx, old) == 0);
    else
        store(tx, root_at + offsetof(struct root, entry_count), root->entry_count + 1);
    must(palloc_commit(tx) == 0);
}

static int delete_key(const char *key)
{
    struct root *root = at(root_at);
    uint64_t link = find(key, hash_of(key)), old = load(link);
    struct palloc_tx *tx;

    if (old == 0)
        return 0;
    must((tx = palloc_begin(pt)) != NULL);
    store(tx, link, ((struct entry *)at(old))->next);
    must(palloc_tx_free(tx, old) == 0);
    store(tx, root_at + offsetof(struct root, entry_count), root->entry_count - 1);
    must(palloc_commit(tx) == 0);
    return 1;
}

/* How much is wrong: dangling offsets, entries in a wrong bucket, a wrong count, blobs that nothing leads to. */
static int check(void)
{
    struct root *root = at(root_at);
    uint64_t *buckets = at(root->buckets), entries = 0, i, offset;
    struct palloc_stat stat;
    int wrong = 0;

    for (i = 0; i < root->bucket_count; i++)
        for (offset = buckets[i]; offset != 0 && wrong == 0; entries++) {
            struct entry *entry = palloc_data(pt, offset);
            wrong += entry == NULL || entries > root->entry_count;
            if (entry == NULL)
                break;
            wrong += entry->hash % root->bucket_count != i || entry->hash != hash_of(entry->text);
            offset = entry->next;
        }
    must(palloc_stat(pt, &stat) == 0);
    return wrong + (entries != root->entry_count) + (stat.live_blobs != entries + 2);
}

int main(int argc, char **argv)
{
    int wrong, i;

    open_table(argc > 1 ? argv[1] : "table.db");
    wrong = check();
    if (argc == 5 && strcmp(argv[2], "set") == 0) {
        set(argv[3], argv[4]);
    } else if (argc == 4 && strcmp(argv[2], "get") == 0) {
        puts(get(argv[3]) != NULL ? get(argv[3]) : "(none)");
    } else if (argc == 4 && strcmp(argv[2], "delete") == 0) {
        puts(delete_key(argv[3]) ? "deleted" : "(none)");
    } else {
        for (i = 0; i < 300; i++) {
            char key[20], value[60];
            snprintf(key, sizeof key, "key %d", i * 7 % 100);
            snprintf(value, sizeof value, "%0*d", 1 + i % 40, i);
            if (i % 5 == 4)
                delete_key(key);
            else
                set(key, value);
        }
        wrong += check();
        printf("key 42 is %s\n", get("key 42"));
    }
    printf("%llu entries in %llu buckets, %d faults\n", (unsigned long long)((struct root *)at(root_at))->entry_count,
           (unsigned long long)((struct root *)at(root_at))->bucket_count, wrong);
    palloc_close(pt);
    return wrong != 0;
}
