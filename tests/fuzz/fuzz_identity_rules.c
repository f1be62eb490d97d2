/* Policy and property files: refused with a sentence, or every rule in them can be asked. The first
 * byte says which kind of file. */
#include "fuzz.h"
#include "tessera/identity/rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    unsigned kind = size > 0 ? data[0] % 3 : 0;
    (void)fuzz_take(&in, size > 0 ? 1 : 0);
    char *text = fuzz_bytes(in);
    struct caller caller = {.scope = SCOPE_PROJECT,
                            .roles = ROLE_MEMBER | ROLE_READER,
                            .project_id = "p",
                            .user_id = "u"};
    json_t *image =
        json_pack("{s:s,s:s,s:{s:s}}", "owner", "p", "visibility", "shared", "props", "k", "v");
    struct policy_rules *rules = NULL;
    struct property_rules *properties = NULL;
    struct err err = {0};
    int rv = kind == 0 ? policy_rules_parse(text, in.size, &rules, &err)
                       : property_rules_parse(text, in.size, kind == 2, NULL, &properties, &err);
    fuzz_check(rv == 0 || (rv == TSR_EINVAL && err.msg[0] != 0));
    fuzz_check(rv == 0 || (rules == NULL && properties == NULL));
    if (rules != NULL) {
        int said = policy_rules_ask(rules, "get_image", &caller, image);
        fuzz_check(said >= -1 && said <= 1);
    }
    for (int act = 0; properties != NULL && act < PROPERTY_ACTS; act++) {
        (void)property_allowed(properties, (enum property_act)act, "name", &caller, image);
    }
    policy_rules_free(rules);
    property_rules_free(properties);
    json_decref(image);
    free(text);
    return 0;
}
