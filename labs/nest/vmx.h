/*
 * vmx: access to the current VMCS, and the entry of the guest.
 */
#ifndef LABS_NEST_VMX_H
#define LABS_NEST_VMX_H

#include "nest.h"
#include "vmcs.h"

/* Both fail() with the VM-instruction error's name if the instruction does. */
uint64_t vmcs_read(enum vmcs_field field);
void vmcs_write(enum vmcs_field field, uint64_t value);

/* True while the controls make the guest exit where it loads or stores CR3 (a processor without the TRUE capability MSRs). */
extern bool cr3_exiting;

/* entry.S: enters the guest and comes back with its next exit: 0, or with 1 = VMfailInvalid, 2 = VMfailValid. */
int vmx_enter(struct guest_registers *registers, bool launched);
extern const char vmx_exit[]; /* entry.S: HOST_RIP */

#endif
