/* Bodies of logins: refused with a sentence, or complete for their method and scope. */
#include "fuzz.h"
#include "identity/login.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = fuzz_bytes((struct fuzz_in){data, size});
    json_t *body = json_parse(copy, size);
    free(copy);
    struct login_ask ask;
    struct err err = {0};
    int rc = login_parse(body, &ask, &err); /* NULL as well: no JSON at all */
    fuzz_check(rc == 0 || (rc == TSR_EINVAL && err.msg[0] != 0));
    if (rc == 0) {
        const struct login_name *u = &ask.user, *a = &ask.appcred, *t = &ask.target;
        bool user = u->id != NULL || (u->name != NULL && (u->domain_id || u->domain_name));
        fuzz_check(ask.method != LOGIN_PASSWORD || (ask.secret != NULL && user));
        fuzz_check(ask.method != LOGIN_TOKEN || ask.token != NULL);
        fuzz_check(ask.method != LOGIN_APPCRED ||
                   (ask.secret != NULL && (a->id != NULL || (a->name != NULL && user))));
        fuzz_check(ask.scope != SCOPE_PROJECT || t->id != NULL || t->name != NULL);
        fuzz_check(ask.scope != SCOPE_DOMAIN || t->domain_id != NULL || t->domain_name != NULL);
    }
    json_decref(body);
    return 0;
}
