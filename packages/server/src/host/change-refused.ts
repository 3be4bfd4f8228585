/** Why a change was not made, in HTTP's words. The body is `{code, message, ...details}`. */
export class ChangeRefusedError extends Error {
  override readonly name = 'ChangeRefusedError';
  readonly status: 400 | 401 | 403 | 404 | 409 | 503 | 504;
  /** A stable word for programs. */
  readonly code: string;
  /** What else a program needs, e.g. the state that is there now. */
  readonly details: Readonly<Record<string, unknown>>;

  /** `message` is one line for people: what is wrong and how to mend it. */
  constructor(
    status: ChangeRefusedError['status'],
    code: string,
    message: string,
    details: Readonly<Record<string, unknown>> = {},
  ) {
    super(message);
    this.status = status;
    this.code = code;
    this.details = details;
  }
}

/** For input that is wrong in these fields: what is wrong with each, e.g. `{reason: 'must not be empty'}`. */
export function invalidFields(fields: Readonly<Record<string, string>>): ChangeRefusedError {
  const problems = Object.entries(fields).map(([name, problem]) => `${name} ${problem}`);
  return new ChangeRefusedError(400, 'invalid', `This is not valid: ${problems.join('; ')}`, { fields });
}

export function unknownFeature(): ChangeRefusedError {
  return new ChangeRefusedError(404, 'unknown_feature', 'There is no such feature, or it has been deleted');
}

export function unknownEnvironment(): ChangeRefusedError {
  return new ChangeRefusedError(404, 'unknown_environment', 'There is no such environment in this project');
}
