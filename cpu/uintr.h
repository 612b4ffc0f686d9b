/* User interrupts [SDM3 "User Interrupts"]: what happens between instructions. The instructions are in cpu/uintr.c, too.
 *
 * An ordinary interrupt whose vector is UINV is a notification (cpu_is_user_notification(), cpu/mode.h): the processor dismisses it and
 * takes what was posted in the descriptor (UPID) into UIRR. While UIRR is not 0 and UIF, CPL 3 and 64-bit mode allow it, ATT_UINTR is set and
 * the highest one is delivered, without a change of privilege. Nothing of this is looked at while CR4.UINTR is 0.
 */
#ifndef NESTOR_CPU_UINTR_H
#define NESTOR_CPU_UINTR_H

#include "cpu/state.h"

/* Notification processing: UPID.ON is cleared, UPID.PIR moves to UIRR. FLOW_END; or a fault was raised, or a VM exit made, and nothing has changed. */
enum flow uintr_process_notification(struct cpu *cpu);

/* Delivers the highest user interrupt; ATT_UINTR is set. FLOW_EVENT: done, or a fault was raised and it goes on to be pending; FLOW_EXIT: a
 * VM exit was made. */
enum flow uintr_deliver(struct cpu *cpu);

#endif
