import { homedir } from 'node:os';
import path from 'node:path';

/** As root `/var/lib/flagcast`, else `$XDG_DATA_HOME/flagcast`, by default `~/.local/share/flagcast`. */
export function defaultDataDir(env: NodeJS.ProcessEnv): string {
  if (process.geteuid?.() === 0) return '/var/lib/flagcast';
  const dataHome = env['XDG_DATA_HOME'] ?? '';
  // The XDG specification: a path that is not absolute is to be ignored.
  return path.join(
    path.isAbsolute(dataHome) ? dataHome : path.join(homedir(), '.local', 'share'),
    'flagcast',
  );
}
