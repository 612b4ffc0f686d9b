/* Vectors with the outcome that a host CPU gave, in a file: written on x86-64, judged on any host. See stored.c. */
#ifndef NESTOR_TESTS_INSN_STORED_H
#define NESTOR_TESTS_INSN_STORED_H

#include "vector.h"

/* States that follow from an index for all time: the files hold only what differs from them. `x87` and `vector`: the
 * instruction is of that kind, so control words and registers are chosen for it. */
void stored_state(struct vector *v, u64 index);
void stored_fpu(struct vector *v, u64 index, bool x87, bool vector);

struct stored;

/* For writing: the features are those that decoding depends on. */
struct stored *stored_new(const u32 *features);
/* Adds a vector that was made from stored_state() and stored_fpu(), with its `native` outcome; RFLAGS bits in `undefined`
 * are left open. False, with a message, when it would not be read back the same. */
bool stored_add(struct stored *s, const struct vector *v, u64 undefined);
bool stored_write(struct stored *s, const char *file);

/* For reading: NULL with a message when the file is no such file. */
struct stored *stored_open(const char *file);
u32 stored_count(const struct stored *s);
const u32 *stored_features(const struct stored *s);
/* The next vector; code and state are complete but for the row and the image. False at the end. */
bool stored_next(struct stored *s, struct vector *v);
/* Names the parts in which an outcome of the vector read last differs, "" when in none. */
const char *stored_differences(const struct stored *s, const struct vector *v, const struct outcome *ours);
void stored_free(struct stored *s);

#endif
