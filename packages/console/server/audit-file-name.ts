/** The name of an exported file. */
export function auditFileName(file: {
  /** The names of the project and the environment; empty for all. */
  readonly place: readonly string[];
  /** RFC 3339. */
  readonly since?: string | undefined;
  readonly until?: string | undefined;
  readonly format: string;
}): string {
  const { place, since = 'start', until = new Date().toISOString(), format } = file;
  const parts = ['audit', ...(place.length === 0 ? ['all-projects'] : place), since, 'to', until];
  const name = parts
    .map((part) => part.replace(/\.\d+Z$/, 'Z').replaceAll(/[^\p{L}\p{N}]+/gu, '-'))
    .join('-');
  return `${name.replace(/^(.{200}).*/su, '$1')}.${format}`;
}
