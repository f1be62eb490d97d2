/* Inspection of vhdx: its tables, with the checksum made right or as it is. Input: what is declared
 * and how strictly, then the image (inspect.h). */
#include "inspect.h"

static const char *const formats[] = {"vhdx", "raw", ""};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    inspect_fuzz_declared(data, size, formats, array_len(formats));
    return 0;
}
