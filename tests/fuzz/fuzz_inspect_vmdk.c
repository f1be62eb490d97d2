/* Inspection of vmdk: headers, descriptors, footers, texts. Input: what is declared and
 * how strictly, then the image (inspect.h). */
#include "inspect.h"

static const char *const formats[] = {"vmdk", "raw", ""};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    inspect_fuzz_declared(data, size, formats, array_len(formats));
    return 0;
}
