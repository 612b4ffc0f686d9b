/* enum vmx_error: VM-instruction error numbers, from vmx/errors.def. */
#ifndef NESTOR_VMX_ERRORS_H
#define NESTOR_VMX_ERRORS_H

enum vmx_error {
    VMX_ERROR_NONE,
#define ERROR(number, name, text) VMX_ERROR_##name = number,
#include "vmx/errors.def"
#undef ERROR
    VMX_ERROR_COUNT
};

/* The SDM's text of an error number; "unknown error" for others. */
const char *vmx_error_text(unsigned number);

#endif
