/** How much a finding matters: `error` keeps `flagcast serve` from working, `warning` makes it worse than it could be. */
export type Level = 'ok' | 'note' | 'warning' | 'error';

/** What makes a finding go away. */
export interface Mend {
  /**
   * - `sql`: statements for the database, by whoever may run them
   * - `command`: for a shell in which DATABASE_URL is set
   * - `advice`: nothing that could be run
   */
  readonly kind: 'sql' | 'command' | 'advice';
  readonly text: string;
}

/** One thing that was looked at. The texts are one line each and hold no password. */
export interface Finding {
  /** Stable, e.g. `listen`; several findings may have the same one. */
  readonly id: string;
  readonly level: Level;
  readonly what: string;
  /** What it means for those who use Flagcast; null where all is well. */
  readonly consequence: string | null;
  readonly mend: Mend | null;
}

export const ok = (id: string, what: string): Finding => ({
  id,
  level: 'ok',
  what,
  consequence: null,
  mend: null,
});

export const sql = (text: string): Mend => ({ kind: 'sql', text });
export const command = (text: string): Mend => ({ kind: 'command', text });
export const advice = (text: string): Mend => ({ kind: 'advice', text });
