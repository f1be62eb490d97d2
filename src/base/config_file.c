/* The settings file: read through inih, and the sample that is printed from the table.
 *
 * inih reads lines through our reader, so that errors can name the line, and a line over its limit
 * or with a 0 byte is an error instead of being cut. */
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/base/assert.h"
#include "tessera/base/buf.h"
#include "tessera/base/config.h"
#include "tessera/base/err.h"

enum { NAMES_MAX = 128, TEXT_COLUMNS = 96 };

struct load {
    struct config *cfg;
    FILE *file;
    const char *path;
    struct err *err;
    int line;
    int rv;
    bool seen[NAMES_MAX]; /* by place in the table */
};

static int fail(struct load *l, int code, const char *text)
{
    if (l->rv == 0) { /* inih goes on after an error; the first one counts */
        l->rv = err_set(l->err, code, "%s line %d: %s", l->path, l->line, text);
    }
    return 0;
}

/* As fgets. */
static char *read_line(char *line, int size, void *arg)
{
    struct load *l = arg;
    int n = 0, c = 0;
    if (l->rv != 0) {
        return NULL;
    }
    while (n < size - 1 && (c = getc(l->file)) != EOF) {
        if (c == 0) {
            l->line++;
            (void)fail(l, TSR_EINVAL, "0 byte in the file");
            return NULL;
        }
        line[n++] = (char)c;
        if (c == '\n') {
            break;
        }
    }
    if (n == 0) {
        if (ferror(l->file)) {
            (void)fail(l, TSR_EIO, "cannot be read");
        }
        return NULL;
    }
    line[n] = 0;
    l->line++;
    if (n == size - 1 && line[n - 1] != '\n') {
        (void)fail(l, TSR_EINVAL, "line too long");
        return NULL;
    }
    return line;
}

static int place_of(const char *name)
{
    size_t count;
    const struct config_setting *table = config_settings(&count);
    tsr_assert(count <= NAMES_MAX);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(table[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

/* A list may go on, in further lines. */
static int extend(struct load *l, const char *name, const char *value, struct err *why)
{
    struct buf all = {0};
    int rv = config_get(l->cfg, name, &all);
    if (rv == 0) {
        size_t size = all.size; /* a comma may end the line before or start this one */
        rv = buf_printf(&all, "%s%s", size > 0 ? ", " : "", value);
    }
    if (rv == 0) {
        rv = config_set(l->cfg, name, all.data, why);
    }
    buf_free(&all);
    return rv;
}

static int on_value(void *arg, const char *section, const char *name, const char *value)
{
    struct load *l = arg;
    struct err why = {0};
    size_t count;
    if (l->rv != 0) {
        return 0;
    }
    if (section[0] != 0) {
        return fail(l, TSR_EINVAL, "sections are not used");
    }
    int place = place_of(name);
    bool list = place >= 0 && config_settings(&count)[place].type == CONFIG_LIST;
    if (place >= 0 && l->seen[place] && !list) {
        (void)err_set(&why, TSR_EINVAL, "%s: set twice", name);
        return fail(l, TSR_EINVAL, why.msg);
    }
    char *text = strdup(value);
    if (text == NULL) {
        return fail(l, TSR_ENOMEM, "out of memory");
    }
    size_t size = strlen(text);
    if (list && size > 0 && text[size - 1] == ',') { /* "more follows" */
        text[size - 1] = 0;
    }
    int rv =
        list && l->seen[place] ? extend(l, name, text, &why) : config_set(l->cfg, name, text, &why);
    free(text);
    if (rv != 0) {
        return fail(l, rv == TSR_ENOMEM ? rv : TSR_EINVAL, why.msg);
    }
    l->seen[place] = true;
    return 1;
}

int config_load(struct config *cfg, const char *path, struct err *err)
{
    struct load l = {.cfg = cfg, .path = path, .err = err};
    l.file = fopen(path, "re");
    if (l.file == NULL) {
        int rv = errno == ENOENT ? TSR_ENOENT : errno == ENOMEM ? TSR_ENOMEM : TSR_EIO;
        return err_set(err, rv, "%s cannot be opened", path);
    }
    int bad_line = ini_parse_stream(read_line, &l, on_value, &l);
    fclose(l.file);
    if (l.rv == 0 && bad_line != 0) {
        l.line = bad_line;
        (void)fail(&l, TSR_EINVAL, "not of the form name = value");
    }
    if (l.rv != 0) {
        return l.rv;
    }
    int rv = config_check(cfg, err);
    return rv == 0 ? 0 : err_wrap(err, rv, path);
}

/* --- the sample ----------------------------------------------------------------------------- */

/* @text in comment lines of bounded width. */
static int print_comment(struct buf *out, const char *text)
{
    int rv = 0;
    while (rv == 0 && *text != 0) {
        size_t n = strlen(text);
        if (n > TEXT_COLUMNS) {
            for (n = TEXT_COLUMNS; n > 1 && text[n] != ' '; n--) {
            }
        }
        rv = buf_printf(out, "# %.*s\n", (int)n, text);
        text += n;
        text += strspn(text, " ");
    }
    return rv;
}

static int print_bounds(struct buf *out, const struct config_setting *s)
{
    struct config low;
    struct buf text = {0};
    int rv = 0;
    if (s->type == CONFIG_CHOICE) {
        return buf_printf(out, "One of %s. ", s->unit);
    }
    if (s->type != CONFIG_INT && s->type != CONFIG_SIZE && s->type != CONFIG_DURATION) {
        return s->unit[0] == 0 ? 0 : buf_printf(out, "List of %s, with commas. ", s->unit);
    }
    memset(&low, 0, sizeof(low)); /* a place to print numbers from */
    int64_t *at = (int64_t *)(void *)((char *)&low + s->offset);
    *at = s->min;
    rv = config_get(&low, s->name, &text);
    if (rv == 0) {
        rv = buf_append_str(&text, " to ");
    }
    *at = s->max;
    if (rv == 0) {
        rv = config_get(&low, s->name, &text);
    }
    if (rv == 0) {
        rv = buf_printf(out, "%s%s%s. ", text.data, s->type == CONFIG_INT ? " " : "",
                        s->type == CONFIG_INT ? s->unit : "");
    }
    buf_free(&text);
    return rv;
}

static int print_setting(struct buf *out, const struct config_setting *s)
{
    struct buf facts = {0};
    int rv = print_comment(out, s->help);
    if (rv == 0) {
        rv = print_bounds(&facts, s);
    }
    if (rv == 0) {
        rv = buf_printf(&facts, "%s %s.",
                        s->scope == CONFIG_CLUSTER ? "The same on every host;" : "This host's own;",
                        s->reload == CONFIG_LIVE ? "a reload is enough" : "needs a restart");
    }
    if (rv == 0) {
        rv = print_comment(out, facts.data);
    }
    if (rv == 0) {
        rv = buf_printf(out, "#%s =%s%s\n\n", s->name, s->fallback[0] == 0 ? "" : " ", s->fallback);
    }
    buf_free(&facts);
    return rv;
}

int config_print_sample(struct buf *out)
{
    size_t count;
    const struct config_setting *table = config_settings(&count);
    int rv =
        buf_append_str(out, "# Settings of tesserad: all of them, with their defaults. This file "
                            "is generated from the\n# table in include/tessera/base/config.h; a "
                            "unit test keeps it up to date.\n\n");
    for (size_t i = 0; rv == 0 && i < count; i++) {
        rv = print_setting(out, &table[i]);
    }
    return rv;
}
