/* Moving bytes between one connection and the kernel, plain or through TLS.
 *
 * Each function tries once and never blocks. TLS may want to write in order to read (key update)
 * and the other way round: the wants are noted for conn_update. */
#include "sys/conn.h"

#include <errno.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include <openssl/err.h>

enum { TLS_RECORD_BYTES = 16 << 10, IO_PIECE_BYTES = 64 << 10 };

static int io_error(int errnum)
{
    if (errnum == EAGAIN || errnum == EWOULDBLOCK) {
        return TSR_EAGAIN;
    }
    return errnum == ETIMEDOUT ? TSR_ETIMEOUT : TSR_EIO;
}

size_t conn_write_size(const struct conn_write *req)
{
    if (req->iov_count == 0) {
        return req->size;
    }
    size_t size = 0;
    for (unsigned i = 0; i < req->iov_count; i++) {
        size += req->iov[i].iov_len;
    }
    return size;
}

/* --- plain ---------------------------------------------------------------------------------- */

static long plain_read(struct conn *c, void *data, size_t size)
{
    for (;;) {
        ssize_t n = recv(c->poll->fd, data, size, 0);
        if (n > 0) {
            return n;
        }
        if (n == 0) {
            return TSR_EEOF;
        }
        if (errno != EINTR) {
            return io_error(errno);
        }
    }
}

/* What is left of @req as an array for sendmsg. */
static unsigned iov_left(const struct conn_write *req, struct iovec out[4])
{
    size_t skip = req->done;
    unsigned count = 0;
    for (unsigned i = 0; i < req->iov_count; i++) {
        struct iovec v = req->iov[i];
        if (skip >= v.iov_len) {
            skip -= v.iov_len;
            continue;
        }
        v.iov_base = (char *)v.iov_base + skip;
        v.iov_len -= skip;
        skip = 0;
        out[count++] = v;
    }
    return count;
}

static long plain_write(struct conn *c, const struct conn_write *req)
{
    for (;;) {
        ssize_t n;
        if (req->iov_count > 0) {
            struct iovec iov[4];
            struct msghdr msg = {.msg_iov = iov};
            msg.msg_iovlen = iov_left(req, iov);
            n = sendmsg(c->poll->fd, &msg, MSG_NOSIGNAL);
        } else {
            off_t offset = (off_t)(req->offset + (int64_t)req->done);
            n = sendfile(c->poll->fd, req->fd, &offset, req->size - req->done);
            if (n == 0) {
                return TSR_EIO; /* the file is shorter than promised */
            }
        }
        if (n >= 0) {
            return n;
        }
        if (errno != EINTR) {
            return io_error(errno);
        }
    }
}

/* --- TLS ------------------------------------------------------------------------------------ */

/* Why an SSL call gave @result: TSR_EAGAIN with *wants_write set, TSR_EEOF, or broken for good. */
static int tls_status(struct conn *c, int result, bool *wants_write)
{
    int errnum = errno;
    switch (SSL_get_error(c->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        *wants_write = false;
        return TSR_EAGAIN;
    case SSL_ERROR_WANT_WRITE:
        *wants_write = true;
        return TSR_EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return TSR_EEOF;
    case SSL_ERROR_SYSCALL:
        c->ssl_status = errnum == ETIMEDOUT ? TSR_ETIMEOUT : TSR_EIO;
        break;
    default:
        /* Most of all: a peer that closed without saying so (an attacker could cut as well), or an
         * alert about our certificate. */
        c->ssl_status = ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING
                            ? TSR_EIO
                            : TSR_EPROTO;
        break;
    }
    ERR_clear_error();
    return c->ssl_status;
}

/* Fill @data from as many records as there are. A status met after some bytes is kept back. */
static long tls_read(struct conn *c, void *data, size_t size)
{
    size_t total = 0;
    c->drained = false;
    if (c->read_status != 0) {
        return c->read_status;
    }
    if (c->ssl_status != 0) {
        return c->ssl_status;
    }
    while (total < size) {
        size_t n = 0;
        ERR_clear_error();
        int result = SSL_read_ex(c->ssl, (char *)data + total, size - total, &n);
        if (result == 1) {
            c->read_wants_write = false;
            total += n;
            continue;
        }
        int status = tls_status(c, result, &c->read_wants_write);
        if (status == TSR_EAGAIN) {
            c->drained = true;
        } else {
            c->read_status = status;
        }
        return total > 0 ? (long)total : status;
    }
    return (long)total;
}

static long tls_write_bytes(struct conn *c, const void *data, size_t size)
{
    size_t n = 0;
    ERR_clear_error();
    int result = SSL_write_ex(c->ssl, data, size, &n);
    if (result == 1) {
        c->write_wants_read = false;
        return (long)n;
    }
    bool wants_write = true;
    int status = tls_status(c, result, &wants_write);
    c->write_wants_read = status == TSR_EAGAIN && !wants_write;
    return status == TSR_EEOF ? TSR_EIO : status;
}

/* Several small pieces go into one record. The bytes depend on req->done alone, so that a retry
 * after WANT_WRITE shows OpenSSL the same ones. */
static long tls_write_iov(struct conn *c, const struct conn_write *req)
{
    struct iovec iov[4] = {0};
    unsigned count = iov_left(req, iov);
    if (count == 1 || iov[0].iov_len >= TLS_RECORD_BYTES) {
        return tls_write_bytes(c, iov[0].iov_base, iov[0].iov_len);
    }
    char record[TLS_RECORD_BYTES];
    size_t size = 0;
    for (unsigned i = 0; i < count && size < sizeof record; i++) {
        size_t n = iov[i].iov_len < sizeof record - size ? iov[i].iov_len : sizeof record - size;
        memcpy(record + size, iov[i].iov_base, n);
        size += n;
    }
    return tls_write_bytes(c, record, size);
}

static long file_piece(const struct conn_write *req, char *data, size_t size)
{
    for (;;) {
        ssize_t n = pread(req->fd, data, size, (off_t)(req->offset + (int64_t)req->done));
        if (n > 0) {
            return n;
        }
        if (n == 0 || errno != EINTR) {
            return TSR_EIO;
        }
    }
}

static long tls_write_file(struct conn *c, const struct conn_write *req)
{
    char piece[IO_PIECE_BYTES];
    size_t left = req->size - req->done;
    long got = file_piece(req, piece, left < sizeof piece ? left : sizeof piece);
    if (got < 0) {
        return got;
    }
    size_t done = 0;
    while (done < (size_t)got) {
        long n = tls_write_bytes(c, piece + done, (size_t)got - done);
        if (n == TSR_EAGAIN && done > 0) {
            break;
        }
        if (n < 0) {
            return n;
        }
        done += (size_t)n;
    }
    return (long)done;
}

static long tls_write(struct conn *c, const struct conn_write *req)
{
    if (c->ssl_status != 0) {
        return c->ssl_status;
    }
    return req->iov_count > 0 ? tls_write_iov(c, req) : tls_write_file(c, req);
}

/* --- either --------------------------------------------------------------------------------- */

long conn_io_read(struct conn *c, void *data, size_t size)
{
    return c->ssl != NULL ? tls_read(c, data, size) : plain_read(c, data, size);
}

long conn_io_write(struct conn *c, const struct conn_write *req)
{
    return c->ssl != NULL ? tls_write(c, req) : plain_write(c, req);
}

/* close_notify, then FIN. TSR_EAGAIN: again when the socket takes data. */
int conn_io_shutdown(struct conn *c)
{
    if (c->ssl != NULL && c->ssl_status == 0) {
        ERR_clear_error();
        int result = SSL_shutdown(c->ssl);
        if (result < 0) {
            bool wants_write = true;
            int status = tls_status(c, result, &wants_write);
            if (status == TSR_EAGAIN && wants_write) {
                return TSR_EAGAIN;
            }
        }
    }
    return shutdown(c->poll->fd, SHUT_WR) == 0 ? 0 : TSR_EIO;
}

int conn_io_handshake(struct conn *c)
{
    ERR_clear_error();
    int result = SSL_do_handshake(c->ssl);
    if (result == 1) {
        c->handshake_wants_write = false;
        return 0;
    }
    int status = tls_status(c, result, &c->handshake_wants_write);
    if (status == TSR_EAGAIN) {
        return status;
    }
    return SSL_get_verify_result(c->ssl) != X509_V_OK ? TSR_EUNAUTHORIZED : status;
}
