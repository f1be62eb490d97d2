/* The first directory of a cluster. */
#include <string.h>

#include "identity/internal.h"
#include "tessera/base/assert.h"
#include "tessera/base/id.h"

static void random_id(struct loop *loop, char out[ID_HEX + 1])
{
    uint8_t bytes[ID_HEX / 2];
    loop_random(loop, bytes, sizeof(bytes));
    hex_encode(bytes, sizeof(bytes), out);
}

/* Takes @value; a NULL one (no memory) makes the whole fail. */
static int add(json_t *commands, const char *kind, const char *id, json_t *value)
{
    json_t *command = json_pack("{s:s,s:s,s:s,s:o,s:s}", "op", "dir.put", "kind", kind, "id", id,
                                "value", value, "if", "absent");
    return command == NULL || json_array_append_new(commands, command) != 0 ? TSR_ENOMEM : 0;
}

static int add_project(json_t *commands, const char *id, const char *name, const char *description)
{
    return add(commands, "project", id,
               json_pack("{s:s,s:s,s:s,s:s,s:b,s:[],s:{}}", "id", id, "name", name, "domain_id",
                         "default", "description", description, "enabled", 1, "tags", "options"));
}

static int add_roles(json_t *commands)
{
    int rv = 0;
    for (size_t i = 0; i < IDENTITY_ROLES && rv == 0; i++) {
        const struct identity_role *r = &identity_role_table[i];
        rv = add(commands, "role", r->id, json_pack("{s:s,s:s}", "id", r->id, "name", r->name));
    }
    return rv;
}

static int add_admin(json_t *commands, const char *project, const char *password_hash_text,
                     struct loop *loop)
{
    char user[ID_HEX + 1], assignment[ASSIGNMENT_ID_MAX];
    const char *role = identity_role_table[0].id;
    random_id(loop, user);
    identity_assignment_id(user, SCOPE_PROJECT, project, role, assignment);
    int rv = add(commands, "user", user,
                 json_pack("{s:s,s:s,s:s,s:b,s:s,s:s,s:{}}", "id", user, "name", "admin",
                           "domain_id", "default", "enabled", 1, "password", password_hash_text,
                           "description", "Administrator of the cluster.", "options"));
    return rv != 0 ? rv
                   : add(commands, "assignment", assignment,
                         json_pack("{s:s,s:s,s:s}", "user_id", user, "project_id", project,
                                   "role_id", role));
}

static int add_key(json_t *commands, const uint8_t cluster_key[32], struct loop *loop)
{
    char name[9];
    json_t *value = NULL;
    int rv = key_record_new(cluster_key, loop, loop_wall_us(loop), name, &value);
    return rv != 0 ? rv : add(commands, "token_key", name, value);
}

int identity_init_commands(const uint8_t cluster_key[32], const char *password, struct loop *loop,
                           json_t **commands_out)
{
    char admin[ID_HEX + 1], service[ID_HEX + 1], hash[PASSWORD_TEXT_MAX];
    uint8_t salt[16];
    json_t *commands = json_array();
    loop_random(loop, salt, sizeof(salt));
    random_id(loop, admin);
    random_id(loop, service);
    int rv = commands == NULL ? TSR_ENOMEM : password_text(password, salt, hash);
    if (rv == 0) {
        rv = add(commands, "domain", "default",
                 json_pack("{s:s,s:s,s:s,s:b}", "id", "default", "name", "Default", "description",
                           "The default domain", "enabled", 1));
    }
    if (rv == 0) {
        rv = add_project(commands, admin, "admin", "Administration of the cluster.");
    }
    if (rv == 0) {
        rv = add_project(commands, service, "service", "Other services.");
    }
    if (rv == 0) {
        rv = add_roles(commands);
    }
    if (rv == 0) {
        rv = add_admin(commands, admin, hash, loop);
    }
    if (rv == 0) {
        rv = add_key(commands, cluster_key, loop);
    }
    if (rv != 0) {
        json_decref(commands);
        return rv;
    }
    *commands_out = commands;
    return 0;
}
