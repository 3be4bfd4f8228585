/** A command of a shell block: its environment variables, and its program and arguments without quotes. */
export interface ShellCommand {
  readonly environment: Readonly<Record<string, string>>;
  readonly words: readonly string[];
}

/**
 * Returns the commands of a block, separated by lines, `&&`, `;` and `|`, without comments. If lines have the prompt `$ `, the
 * other lines are output and are ignored.
 */
export function commandsOf(text: string): ShellCommand[] {
  const joined = text.replaceAll('\\\n', ' ').split('\n');
  const prompted = joined.filter((line) => line.startsWith('$ ')).map((line) => line.slice(2));
  return (prompted.length > 0 ? prompted : joined).flatMap((line) =>
    splitCommands(line).flatMap((words) => {
      const environment: Record<string, string> = {};
      const rest = words[0] === 'export' ? words.slice(1) : [...words];
      while (rest[0] !== undefined && /^[A-Z_]+=/.test(rest[0])) {
        const [name = '', value = ''] = (rest.shift() ?? '').split(/=(.*)/s);
        environment[name] = value;
      }
      return rest.length > 0 || Object.keys(environment).length > 0 ? [{ environment, words: rest }] : [];
    }),
  );
}

/** Returns the words of each command of a line. */
function splitCommands(line: string): string[][] {
  const commands: string[][] = [[]];
  // A word is a sequence of quoted parts, `$(...)`, and characters other than spaces and separators.
  const pattern =
    /\s+#.*$|^#.*$|(&&|\|\||[;|])|((?:"(?:\\.|\$\((?:[^)"]|"[^"]*")*\)|[^"\\])*"|'[^']*'|\$\([^)]*\)|[^\s;|&"'])+)/g;
  for (const [, separator, word] of line.matchAll(pattern)) {
    if (separator !== undefined) commands.push([]);
    else if (word !== undefined) commands.at(-1)?.push(unquoted(word));
  }
  return commands.filter((words) => words.length > 0);
}

function unquoted(word: string): string {
  return word.replace(
    /"((?:\\.|[^"\\])*)"|'([^']*)'/g,
    (_, double?: string, single?: string) => double ?? single ?? '',
  );
}
