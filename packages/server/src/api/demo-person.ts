/** Somebody whom the sign-in page of the demo offers. */
export interface DemoPerson {
  readonly username: string;
  readonly password: string;
  /** One line about what this person may do. */
  readonly about: string;
}
