/* What Keystone says of a token, and access rules: refused with a sentence, or a complete caller; a
 * pattern that has no wildcard matches itself only. */
#include "fuzz.h"
#include "identity/keystone_internal.h"

static void check_caller(const struct caller *c)
{
    fuzz_check(c->user_id[0] != 0 && strlen(c->user_id) <= IDENTITY_ID_MAX);
    fuzz_check((c->scope == SCOPE_PROJECT) == (c->project_id[0] != 0));
    fuzz_check((c->scope == SCOPE_DOMAIN) == (c->domain_id[0] != 0));
    fuzz_check(!c->local_admin && strlen(c->methods) < sizeof(c->methods));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct caller caller;
    struct access_rules rules = {0};
    struct err err = {0};
    char *copy = fuzz_bytes((struct fuzz_in){data, size});
    int rc = keystone_token_parse(copy, size, &caller, &rules, &err);
    fuzz_check(rc == 0 || (rc == TSR_EPROTO && err.msg[0] != 0));
    if (rc == 0) {
        check_caller(&caller);
        fuzz_check(rules.restricted || rules.count == 0);
        (void)access_rules_allow(&rules, "image", "GET", "/v2/images/x/file");
        for (size_t i = 0; i < rules.count; i++) {
            const char *path = rules.items[i].path;
            bool plain = strpbrk(path, "*{") == NULL;
            fuzz_check(!plain || access_path_matches(path, path));
            fuzz_check(!plain || path[0] == 0 || !access_path_matches(path, ""));
        }
    }
    access_rules_free(&rules);
    free(copy);
    return 0;
}
