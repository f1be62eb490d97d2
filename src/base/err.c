#include "tessera/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct err_row {
    int code;
    int http_status;
    bool may_retry;
    const char *name;
    const char *text;
};

static const struct err_row rows[] = {
#define X(name, number, status, retry, text) {TSR_##name, status, retry, "TSR_" #name, text},
    TSR_ERRORS(X)
#undef X
};

static const struct err_row *find(int code)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].code == code) {
            return &rows[i];
        }
    }
    return NULL;
}

const char *err_name(int code)
{
    const struct err_row *row = find(code);
    if (row == NULL) {
        return code == 0 ? "TSR_OK" : "TSR_?";
    }
    return row->name;
}

const char *err_text(int code)
{
    const struct err_row *row = find(code);
    if (row == NULL) {
        return code == 0 ? "success" : "unknown error";
    }
    return row->text;
}

int err_http_status(int code)
{
    const struct err_row *row = find(code);
    return row == NULL ? 500 : row->http_status;
}

bool err_may_retry(int code)
{
    const struct err_row *row = find(code);
    return row != NULL && row->may_retry;
}

int err_from_errno(int errnum)
{
    switch (errnum) {
    case 0:
        return 0;
    case ENOSPC:
    case EDQUOT:
        return TSR_ENOSPC;
    case ENOENT:
    case ENOTDIR:
        return TSR_ENOENT;
    case EEXIST:
    case EADDRINUSE:
        return TSR_EEXIST;
    case ENOTEMPTY:
        return TSR_ECONFLICT;
    case ENOMEM:
        return TSR_ENOMEM;
    case EACCES:
    case EPERM:
        return TSR_EFORBIDDEN;
    case EINVAL:
    case ENAMETOOLONG:
        return TSR_EINVAL;
    case EFBIG:
        return TSR_ETOOBIG;
    case EMFILE:
    case ENFILE:
    case EBUSY:
        return TSR_EBUSY;
    case EAGAIN:
        return TSR_EAGAIN;
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case ENOTCONN:
    case EPIPE:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
        return TSR_ECONNECT;
    case ETIMEDOUT:
        return TSR_ETIMEOUT;
    case ECANCELED:
        return TSR_ECANCELED;
    case ENOSYS:
    case EOPNOTSUPP:
        return TSR_ENOTSUP;
    default:
        return TSR_EIO;
    }
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
    if (err == NULL) {
        return code;
    }
    va_list args;
    va_start(args, fmt);
    err->code = code;
    if (vsnprintf(err->msg, sizeof(err->msg), fmt, args) < 0) {
        err->msg[0] = 0;
    }
    va_end(args);
    return code;
}

int err_wrap(struct err *err, int code, const char *prefix)
{
    if (err == NULL) {
        return code;
    }
    if (err->code == 0) { /* nothing said below: say what the code says */
        return err_set(err, code, "%s: %s", prefix, err_text(code));
    }
    char old[ERR_MSG_SIZE];
    memcpy(old, err->msg, sizeof(old));
    return err_set(err, err->code, "%s: %s", prefix, old);
}
