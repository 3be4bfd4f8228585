import { homedir } from 'node:os';
import path from 'node:path';

/**
 * As root `/var/lib/flagcast`, else `$XDG_DATA_HOME/flagcast`, by default `~/.local/share/flagcast`. Null for a user
 * without a home directory.
 */
export function defaultDataDir(env: NodeJS.ProcessEnv): string | null {
  if (process.geteuid?.() === 0) return '/var/lib/flagcast';
  const home = homeDirectory();
  // The XDG specification: a path that is not absolute is to be ignored.
  const dataHome = [env['XDG_DATA_HOME'] ?? '', path.join(home, '.local', 'share')].find((folder) =>
    path.isAbsolute(folder),
  );
  return dataHome === undefined ? null : path.join(dataHome, 'flagcast');
}

/** Empty where HOME is not set and the password database does not know the user, as in a container with any user id. */
function homeDirectory(): string {
  try {
    return homedir();
  } catch {
    return '';
  }
}
