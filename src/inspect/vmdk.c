/* VMDK sparse extents (VMware Virtual Disk Format 5.0): little-endian header, then a text
 * descriptor that may name other files. Hypervisors follow it, so it is read line by line, and
 * whatever is not understood is refused; but QEMU does not read lines: it searches for words in the
 * 10 KiB behind the header, comments included, so these may stand there only where we understand
 * them. Without a capacity it would open the descriptor's extents as files. A stream-optimized disk
 * has a second header, the footer, at its end; it must say the same as the first. */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "inspect/private.h"

enum {
    AT_VERSION = 4,
    AT_CAPACITY = 12,
    AT_DESCRIPTOR = 28,
    AT_DESCRIPTOR_SIZE = 36,
    AT_DIRECTORY = 56,
    HEADER_SAME = 56, /* header and footer agree up to the place of the grain directory */
    MARKER_FOOTER = 3,
    MARKER_END = 0,
    LINE_MAX_BYTES = 4096,
    TEXT_SEARCHED = 20 * INSPECT_SECTOR, /* by QEMU, whatever the header says */
};

int inspect_vmdk_header(struct inspect *i, struct err *err)
{
    const uint8_t *h = i->head;
    uint64_t version = inspect_le(h + AT_VERSION, 4);
    uint64_t sectors = inspect_le(h + AT_CAPACITY, 8);
    uint64_t descriptor_sectors = inspect_le(h + AT_DESCRIPTOR_SIZE, 8);
    if (version < 1 || version > 3 || sectors == 0 || sectors > INT64_MAX / INSPECT_SECTOR) {
        return inspect_unsafe(err, "an unknown version or size of vmdk");
    }
    if (inspect_le(h + AT_DESCRIPTOR, 8) != 1 || descriptor_sectors == 0 ||
        descriptor_sectors > INSPECT_CAPTURE_MAX / INSPECT_SECTOR) {
        return inspect_unsafe(err, "the vmdk descriptor is not where it must be");
    }
    if (!inspect_capture_start(i, INSPECT_SECTOR, (size_t)descriptor_sectors * INSPECT_SECTOR)) {
        return err_set(err, TSR_ENOMEM, "out of memory");
    }
    i->want_tail = inspect_le(h + AT_DIRECTORY, 8) == UINT64_MAX;
    i->virtual_size = (int64_t)(sectors * INSPECT_SECTOR);
    return 0;
}

/* As QEMU probes (block/vmdk.c): comments and blank lines, then a line that gives the version. The
 * usual first comment is enough for others. */
bool inspect_vmdk_text_found(const uint8_t *data, size_t size)
{
    static const char usual[] = "# Disk DescriptorFile", version[] = "version=";
    const char *p = (const char *)data, *end = p + size;
    if (size >= sizeof(usual) - 1 && memcmp(p, usual, sizeof(usual) - 1) == 0) {
        return true;
    }
    while (p < end && (*p == '#' || *p == ' ' || *p == '\r' || *p == '\n')) {
        const char *line = memchr(p, '\n', (size_t)(end - p));
        if (line == NULL) {
            return false;
        }
        for (const char *c = p; *p != '#' && c < line; c++) {
            if (*c != ' ' && *c != '\r') {
                return false;
            }
        }
        p = line + 1;
    }
    size_t left = (size_t)(end - p), word = sizeof(version) - 1;
    return left > word + 1 && memcmp(p, version, word) == 0 && p[word] >= '1' && p[word] <= '3' &&
           (p[word + 1] == '\n' || p[word + 1] == '\r');
}

/* --- the descriptor ----------------------------------------------------------------------------
 */

struct line {
    const char *text;
    size_t size;
};

static struct line trimmed(struct line l)
{
    while (l.size > 0 && (l.text[0] == ' ' || l.text[0] == '\t')) {
        l.text++;
        l.size--;
    }
    while (l.size > 0 && isspace((unsigned char)l.text[l.size - 1])) {
        l.size--;
    }
    return l;
}

static bool starts(struct line l, const char *word)
{
    size_t size = strlen(word);
    return l.size >= size && strncasecmp(l.text, word, size) == 0;
}

static bool is_extent(struct line l)
{
    return starts(l, "RW ") || starts(l, "RDONLY ") || starts(l, "NOACCESS ");
}

/* word = value: gives both parts. */
static bool split(struct line l, struct line *word_out, struct line *value_out)
{
    const char *equals = memchr(l.text, '=', l.size);
    if (equals == NULL) {
        return false;
    }
    size_t at = (size_t)(equals - l.text);
    *word_out = trimmed((struct line){l.text, at});
    *value_out = trimmed((struct line){equals + 1, l.size - at - 1});
    for (size_t n = 0; n < word_out->size; n++) {
        unsigned char c = (unsigned char)word_out->text[n];
        if (!isalnum(c) && c != '_' && c != '.' && c != '-') {
            return false;
        }
    }
    return word_out->size > 0;
}

static bool is_text(struct line l, const char *text)
{
    return l.size == strlen(text) && strncasecmp(l.text, text, l.size) == 0;
}

static bool type_allowed(struct line value)
{
    if (value.size >= 2 && value.text[0] == '"' && value.text[value.size - 1] == '"') {
        value = (struct line){value.text + 1, value.size - 2};
    }
    return is_text(value, "monolithicSparse") || is_text(value, "streamOptimized");
}

struct descriptor {
    bool typed;
    unsigned extents;
};

static bool line_ok(struct line l, struct descriptor *d)
{
    struct line word, value;
    l = trimmed(l);
    if (l.size == 0 || l.text[0] == '#' || starts(l, "ddb")) {
        return true;
    }
    if (is_extent(l)) {
        d->extents++;
        return memchr(l.text, '/', l.size) == NULL;
    }
    if (!split(l, &word, &value)) {
        return false;
    }
    if (is_text(word, "createType")) {
        d->typed = true;
        return type_allowed(value);
    }
    return true;
}

static unsigned times_in(const uint8_t *text, size_t size, const char *word)
{
    size_t length = strlen(word);
    unsigned times = 0;
    for (size_t at = 0; at + length <= size; at++) {
        times += strncasecmp((const char *)text + at, word, length) == 0;
    }
    return times;
}

int inspect_vmdk_descriptor(const uint8_t *text, size_t size, struct err *err)
{
    struct descriptor d = {0};
    const uint8_t *zero = memchr(text, 0, size);
    if (zero == NULL && size < TEXT_SEARCHED) {
        /* what follows would be read as part of it */
        return inspect_unsafe(err, "the vmdk descriptor has no end");
    }
    size = zero != NULL ? (size_t)(zero - text) : size;
    if (times_in(text, size, "parentFileNameHint") != 0 ||
        times_in(text, size, "createType") != 1) {
        return inspect_unsafe(err, "the vmdk names a parent, or its type more or less than once");
    }
    for (size_t n = 0; n < size; n++) {
        if (text[n] > 0x7e || (text[n] < 0x20 && !isspace(text[n]))) {
            return inspect_unsafe(err, "the vmdk descriptor is not ASCII text");
        }
    }
    for (size_t at = 0; at < size;) {
        const uint8_t *end = memchr(text + at, '\n', size - at);
        size_t length = end != NULL ? (size_t)(end - text) - at : size - at;
        if (length > LINE_MAX_BYTES ||
            !line_ok((struct line){(const char *)text + at, length}, &d)) {
            return inspect_unsafe(err, "a line of the vmdk descriptor is not accepted: another "
                                       "createType, a path, or none of its forms");
        }
        at += length + 1;
    }
    return d.typed && d.extents > 0
               ? 0
               : inspect_unsafe(err, "the vmdk descriptor has no type, or no extent");
}

/* --- the footer
 * ----------------------------------------------------------------------------------- */

/* Marker sector: u64 value, u32 size, u32 type. */
static bool is_marker(const uint8_t *sector, uint64_t value, uint64_t type)
{
    return inspect_le(sector, 8) == value && inspect_le(sector + 8, 4) == 0 &&
           inspect_le(sector + 12, 4) == type;
}

int inspect_vmdk_footer(const struct inspect *i, struct err *err)
{
    const uint8_t *footer = i->tail + INSPECT_SECTOR;
    if (i->tail_size != INSPECT_TAIL || !is_marker(i->tail, 1, MARKER_FOOTER) ||
        !is_marker(footer + INSPECT_SECTOR, 0, MARKER_END)) {
        return inspect_unsafe(err, "the vmdk has no footer where it must be");
    }
    if (memcmp(footer, i->head, HEADER_SAME) != 0 ||
        inspect_le(footer + AT_DIRECTORY, 8) == UINT64_MAX) {
        return inspect_unsafe(err, "the vmdk footer says something else than the header");
    }
    return 0;
}
