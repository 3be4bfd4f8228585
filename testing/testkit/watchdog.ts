import { spawn } from 'node:child_process';
import type { Writable } from 'node:stream';

/**
 * Keeps a list of processes: `SIGNAL:pid`, or `SIGNAL:pattern` for the process whose id is in the first line of the file that
 * matches. Its input ends when this process has ended, also by SIGKILL: then it ends what is still on the list.
 */
const script = `
trap '' HUP INT TERM
list=' '
while read -r change entry; do
  case $change in
    add) list="$list$entry " ;;
    remove) list="\${list%%" $entry "*} \${list#*" $entry "}" ;;
  esac
done
pid_of() {
  case $1 in
    */*) head -n 1 $1 ;;
    *) echo "$1" ;;
  esac
}
for entry in $list; do kill -s "\${entry%%:*}" "$(pid_of "\${entry#*:}")"; done 2>/dev/null
[ "$list" = ' ' ] || sleep 5
for entry in $list; do kill -s KILL "$(pid_of "\${entry#*:}")"; done 2>/dev/null
`;

let input: Writable | null = null;

function open(): Writable {
  // A session of its own: a signal for all processes of the terminal or group does not end it.
  const child = spawn('sh', ['-c', script], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
  child.on('error', () => undefined);
  child.stdin.on('error', () => undefined);
  child.unref();
  // A pipe is a socket of Node, whose type is that of any stream here. It must not keep this process running.
  (child.stdin as Writable & { unref(): void }).unref();
  return child.stdin;
}

/**
 * The process ends with this one at the latest, however this one ends. `process`: its id, or a pattern of the file whose
 * first line it is. `signal`: what it gets first; SIGKILL follows after 5 s. Returns a function that takes it off the list, for when it has
 * ended: its id can be that of another process later.
 */
export function endWithParent(process: number | string, signal: 'TERM' | 'QUIT' = 'TERM'): () => void {
  const stream = (input ??= open());
  const entry = `${signal}:${process}`;
  stream.write(`add ${entry}\n`);
  return () => void stream.write(`remove ${entry}\n`);
}
