/* One set of handles for the process: signals belong to a process, not to an object. */
#include "tessera/sys/signal.h"

#include <signal.h>
#include <uv.h>

#include "tessera/base/assert.h"
#include "tessera/base/err.h"

static struct {
    uv_signal_t handles[3];
    void (*stop)(void *arg);
    void (*reload)(void *arg);
    void *arg;
    bool running;
} signals;

static void on_signal(uv_signal_t *handle, int number)
{
    (void)handle;
    (number == SIGHUP ? signals.reload : signals.stop)(signals.arg);
}

int signals_start(struct loop *loop, void (*stop)(void *arg), void (*reload)(void *arg), void *arg)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    signals.stop = stop;
    signals.reload = reload;
    signals.arg = arg;
    (void)signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < array_len(numbers); i++) {
        if (uv_signal_init(uv_loop_native(loop), &signals.handles[i]) != 0 ||
            uv_signal_start(&signals.handles[i], on_signal, numbers[i]) != 0) {
            return TSR_ENOMEM;
        }
        uv_unref((uv_handle_t *)&signals.handles[i]);
    }
    signals.running = true;
    return 0;
}

void signals_stop(void)
{
    if (!signals.running) {
        return;
    }
    signals.running = false;
    for (size_t i = 0; i < array_len(signals.handles); i++) {
        uv_close((uv_handle_t *)&signals.handles[i], NULL);
    }
}
