import koffi from 'koffi';

/*
 * Loaded before a program. Installs a seccomp filter like that of a container: io_uring_setup fails with EPERM.
 * Each instruction is a struct sock_filter of linux/filter.h.
 */
const [load, jumpIfEqual, answer] = [0x20, 0x15, 0x06];
const [refused, allowed] = [0x0005_0001, 0x7fff_0000];
const setupCall = 425;
const instructions = [
  // The first field is the number of the system call.
  { code: load, otherwise: 0, value: 0 },
  { code: jumpIfEqual, otherwise: 1, value: setupCall },
  { code: answer, otherwise: 0, value: refused },
  { code: answer, otherwise: 0, value: allowed },
];
const filter = Buffer.alloc(instructions.length * 8);
for (const [index, { code, otherwise, value }] of instructions.entries()) {
  filter.writeUInt16LE(code, index * 8);
  filter.writeUInt8(otherwise, index * 8 + 3);
  filter.writeUInt32LE(value, index * 8 + 4);
}

koffi.struct('sock_fprog', { length: 'uint16_t', filter: 'void *' });
const prctl = koffi
  .load(null)
  .func('int prctl(int option, long value, const sock_fprog *program, long, long)');
const [noNewPrivileges, seccomp, byFilter] = [38, 22, 2];
if (
  prctl(noNewPrivileges, 1, null, 0, 0) !== 0 ||
  prctl(seccomp, byFilter, { length: instructions.length, filter }, 0, 0) !== 0
) {
  throw new Error(`no filter (errno ${koffi.errno()})`);
}
