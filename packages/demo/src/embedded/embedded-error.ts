/**
 * Why the embedded PostgreSQL could not start or did not stay:
 * `held` somebody else uses the data folder; `disk-full`; `other-major` the folder holds a
 * cluster of another PostgreSQL major version; `unreachable` a folder is closed to us or to the
 * account that PostgreSQL runs as; `unsupported` there are no binaries that run on this system;
 * `failed` anything else, with PostgreSQL's own words.
 */
export type EmbeddedPostgresErrorCode =
  | 'held'
  | 'disk-full'
  | 'other-major'
  | 'unreachable'
  | 'unsupported'
  | 'failed';

/** One clear line: what is wrong, and how to mend it. */
export class EmbeddedPostgresError extends Error {
  override readonly name = 'EmbeddedPostgresError';
  readonly code: EmbeddedPostgresErrorCode;
  /** The process that holds the data folder, for `held`; else null. */
  readonly holderPid: number | null;

  constructor(
    code: EmbeddedPostgresErrorCode,
    message: string,
    options: { cause?: unknown; holderPid?: number } = {},
  ) {
    super(message, 'cause' in options ? { cause: options.cause } : {});
    this.code = code;
    this.holderPid = options.holderPid ?? null;
  }
}

/** The code of a system error (`ENOENT`) or of a PostgreSQL error (`53100`); undefined without one. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** What a user can do about a data folder that does not work. */
const otherFolder = 'set FLAGCAST_DATA_DIR to another folder';

/** Brings whatever went wrong with `folder` to one EmbeddedPostgresError; `wayOut` is what else helps. */
export function toEmbeddedError(
  error: unknown,
  folder: string,
  wayOut: string = otherFolder,
): EmbeddedPostgresError {
  if (error instanceof EmbeddedPostgresError) return error;
  const code = errorCode(error);
  const message = oneLine(error instanceof Error ? error.message : String(error));
  // 53100 is PostgreSQL's disk_full.
  if (code === 'ENOSPC' || code === 'EDQUOT' || code === '53100') return diskFull(folder, wayOut, error);
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS' || code === 'ENOTDIR') {
    return new EmbeddedPostgresError(
      'unreachable',
      `The folder ${folder} cannot be used (${message}); open it to this user, or ${wayOut}.`,
      { cause: error },
    );
  }
  // 28P01 is PostgreSQL's invalid_password.
  if (code === '28P01') {
    return new EmbeddedPostgresError(
      'failed',
      `The password in ${folder}/password does not open the cluster beside it; put the right one back, or ${wayOut}.`,
      { cause: error },
    );
  }
  return new EmbeddedPostgresError(
    'failed',
    `The embedded PostgreSQL in ${folder} failed: ${message}; mend that, or ${wayOut}.`,
    { cause: error },
  );
}

/** The error behind what `initdb` or `postgres` printed, oldest line first. */
export function errorFromOutput(
  subject: string,
  lines: readonly string[],
  folder: string,
): EmbeddedPostgresError {
  if (lines.some((line) => /No space left on device|Disk quota exceeded/.test(line))) {
    return diskFull(folder, otherFolder);
  }
  const said = telling(lines);
  return new EmbeddedPostgresError(
    'failed',
    `${subject}${said === undefined ? '' : `: ${said}`}; mend that, or give --database-url.`,
  );
}

/** The line that says what went wrong, without PostgreSQL's prefix; undefined when nothing was printed. */
export function telling(lines: readonly string[]): string | undefined {
  const bare = lines
    .map((line) => line.replace(/^\S+ \S+ \S+ \[\d+\] /, '').trim())
    .filter((line) => line !== '');
  const line = bare.findLast((text) => /\b(FATAL|PANIC|ERROR|error)\b/.test(text)) ?? bare.at(-1);
  return line === undefined ? undefined : oneLine(line);
}

function diskFull(folder: string, wayOut: string, cause?: unknown): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    'disk-full',
    `The disk that holds ${folder} is full; free at least 100 MB there, or ${wayOut}.`,
    cause === undefined ? {} : { cause },
  );
}

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, ' ').replace(/[.;]?\s*$/, '');
}
