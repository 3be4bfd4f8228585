/**
 * The reason why the embedded PostgreSQL did not start or has ended. `held`: another process uses the data folder.
 * `disk-full`. `other-major`: the folder has a cluster of another major version. `unreachable`: this process or PostgreSQL's
 * account cannot access a folder. `unsupported`: no binaries run on this system. `failed`: any other error, with the message
 * of PostgreSQL.
 */
export type EmbeddedPostgresErrorCode =
  | 'held'
  | 'disk-full'
  | 'other-major'
  | 'unreachable'
  | 'unsupported'
  | 'failed';

/** The message is one line: what is wrong and how to fix it. */
export class EmbeddedPostgresError extends Error {
  override readonly name = 'EmbeddedPostgresError';
  readonly code: EmbeddedPostgresErrorCode;
  /** For `held`: the process that uses the data folder; otherwise null. */
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

/** Returns the code of a system error (`ENOENT`) or a PostgreSQL error (`53100`), or undefined. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

const otherFolder = 'set FLAGCAST_DATA_DIR to another folder';

/** Converts any error about `folder` to an EmbeddedPostgresError. `alternative`: another way to fix it, for the message. */
export function toEmbeddedError(
  error: unknown,
  folder: string,
  alternative: string = otherFolder,
): EmbeddedPostgresError {
  if (error instanceof EmbeddedPostgresError) return error;
  const code = errorCode(error);
  const message = oneLine(error instanceof Error ? error.message : String(error));
  // 53100 is PostgreSQL's disk_full.
  if (code === 'ENOSPC' || code === 'EDQUOT' || code === '53100') return diskFull(folder, alternative, error);
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS' || code === 'ENOTDIR') {
    return new EmbeddedPostgresError(
      'unreachable',
      `The folder ${folder} cannot be used (${message}); give this user access, or ${alternative}.`,
      { cause: error },
    );
  }
  // 28P01 is PostgreSQL's invalid_password.
  if (code === '28P01') {
    return new EmbeddedPostgresError(
      'failed',
      `The password in ${folder}/password does not open the cluster in the same folder; restore the right one, or ${alternative}.`,
      { cause: error },
    );
  }
  return new EmbeddedPostgresError(
    'failed',
    `The embedded PostgreSQL in ${folder} failed: ${message}; fix that, or ${alternative}.`,
    { cause: error },
  );
}

/** Converts the output of `initdb` or `postgres`, oldest line first, to an error. */
export function errorFromOutput(
  subject: string,
  lines: readonly string[],
  folder: string,
): EmbeddedPostgresError {
  if (lines.some((line) => /No space left on device|Disk quota exceeded/.test(line))) {
    return diskFull(folder, otherFolder);
  }
  const reason = errorLineOf(lines);
  return new EmbeddedPostgresError(
    'failed',
    `${subject}${reason === undefined ? '' : `: ${reason}`}; fix that, or use --database-url.`,
  );
}

/** Returns the line with the error, without PostgreSQL's prefix; undefined without output. */
export function errorLineOf(lines: readonly string[]): string | undefined {
  const messages = lines
    .map((line) => line.replace(/^\S+ \S+ \S+ \[\d+\] /, '').trim())
    .filter((line) => line !== '');
  const line = messages.findLast((text) => /\b(FATAL|PANIC|ERROR|error)\b/.test(text)) ?? messages.at(-1);
  return line === undefined ? undefined : oneLine(line);
}

function diskFull(folder: string, alternative: string, cause?: unknown): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    'disk-full',
    `The disk that holds ${folder} is full; free at least 100 MB there, or ${alternative}.`,
    cause === undefined ? {} : { cause },
  );
}

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, ' ').replace(/[.;]?\s*$/, '');
}
