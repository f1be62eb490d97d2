/* Inspection of vmdk: headers, descriptors, footers, texts. Input: what is declared and
 * how strictly, then the image (inspect.h). */
#include "inspect.h"

static const char *const formats[] = {"vmdk", "raw", ""};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    uint8_t how = fuzz_u8(&in);
    struct inspect_case c = {.container = "bare"};
    c.format = formats[(how & 15) % (sizeof formats / sizeof *formats)];
    c.strict = (how & 16) != 0;

    inspect_fuzz(in, &c);
    return 0;
}
