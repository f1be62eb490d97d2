/* Handlers of the Image API that are in other files than its route table, and what they share. */
#ifndef API_IMAGE_FACE_H
#define API_IMAGE_FACE_H

#include "api/face.h"

/* A change first waits until this host knows everything that was answered before (10 s at most,
 * else 503), so that its checks see what the client saw on another host. Then @step->run. */
struct image_step {
    api_fn run;
};
void image_change(struct api_req *r, const struct image_step *step);
/* Callbacks for services (image_cb): 204, or the refusal. */
void image_empty_cb(void *arg, int status, json_t *result, const struct err *err);
/* 200 with the result. */
void image_json_cb(void *arg, int status, json_t *result, const struct err *err);
/* Media type of a Content-Type value, parameters apart, any letter case. */
bool image_media_is(const char *content_type, const char *media);
/* The status of a failed PUT of image data: 503 only to those who can send the data again. In
 * image_file.c. */
int image_upload_status(const struct api_req *r, int status);
/* A PUT of image data under a key: was it done before? Then the body is compared and the request
 * answered: true. In image_file.c. */
bool image_upload_again(struct api_req *r);
/* 201 with the task. In image_import.c. */
void image_task_made(struct api_req *r, const char *id);
/* Location, absolute, of what is at @path. In image_v2.c. */
void image_set_location(struct api_req *r, const char *path);

/* The name of the cluster's store as JSON text, malloc'ed; NULL when out of memory. */
char *image_store_text(const struct api_req *r);

/* image_list.c */
void image_index(struct api_req *r);

/* image_info.c */
void image_info_import(struct api_req *r);
void image_info_stores(struct api_req *r);
void image_info_stores_detail(struct api_req *r);
void image_info_usage(struct api_req *r);
void image_store_delete(struct api_req *r);
void image_locations_list(struct api_req *r);

/* image_cache.c */
void image_cache_list(struct api_req *r);
void image_cache_queue(struct api_req *r);
void image_cache_delete(struct api_req *r);
void image_cache_clear(struct api_req *r);
void image_cache_clean(struct api_req *r);
void image_cache_prune(struct api_req *r);
void image_cache_nodes(struct api_req *r);

/* image_import.c */
void image_import_post(struct api_req *r);
void image_locations_post(struct api_req *r);
void image_import_headers(struct api_req *r); /* of the reply to a create */
void image_tasks_list(struct api_req *r);
void image_task_index(struct api_req *r);
void image_task_show(struct api_req *r);
void image_task_post(struct api_req *r);

/* schemas.c: text of a schema, malloc'ed; NULL: no such schema, or out of memory. */
char *schema_text(const char *name);
void image_schema(struct api_req *r);

/* schemas_metadef.c: the same for /v2/schemas/metadefs. */
char *metadef_schema_text(const char *name);
void metadef_schema(struct api_req *r);

/* image_members.c */
void image_members_list(struct api_req *r);
void image_members_get(struct api_req *r);
void image_members_add(struct api_req *r);
void image_members_set(struct api_req *r);
void image_members_remove(struct api_req *r);

#endif
