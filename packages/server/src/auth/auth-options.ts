/** How tokens are checked. */
export type TokenOptions = TokenChecks &
  (
    | {
        /** The HS256 secret that the tokens are signed with: at least 32 bytes of UTF-8. */
        readonly secret: string;
        readonly jwksUrl?: undefined;
      }
    | {
        /** Where the issuer publishes its public keys (a JWK Set): http or https. */
        readonly jwksUrl: string;
        readonly secret?: undefined;
        readonly issuer: string;
        readonly audience: string;
      }
  );

/** What tokens must say. */
export interface TokenChecks {
  /** The `iss` that a token must carry. Default with a secret: any. */
  readonly issuer?: string | undefined;
  /** The `aud` that a token must carry. Default with a secret: any. */
  readonly audience?: string | undefined;
  /**
   * The claim that identifies the user, and the column of users that it is compared with: `userId:id`, `sub:id`,
   * `preferred_username:username`, `email:email`; with `authorize` or `authorizeSql` the claim alone. Default with
   * a secret: `userId` as users.id, else `sub` (digits are users.id, else users.username); with `authorize` or
   * `authorizeSql` any text or whole number in `userId`, else `sub`, else `username`. With a jwksUrl there is no
   * default, but with `authorize` or `authorizeSql`: `sub`.
   */
  readonly userClaim?: string | undefined;
  /** The longest life of a token that is accepted, in milliseconds. Default 86,400,000 (a day). */
  readonly maxTokenAgeMs?: number | undefined;
}
