/* Inspection of any data. Input: declared format, container, then the image (inspect.h). */
#include "inspect.h"

static const char *const formats[] = {"raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi",
                                      "iso", "ami",   "ari",  "aki", "ploop"};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    struct inspect_case c = {0};
    c.format = formats[fuzz_u8(&in) % (sizeof formats / sizeof *formats)];
    c.container = fuzz_u8(&in) == 7 ? "ovf" : "bare";
    inspect_fuzz(in, &c);
    return 0;
}
