/** A user who has the feature or the request open. */
export interface PresenceUser {
  user_id: string;
  username: string;
  /** The field that the user is editing; null while the user only views. */
  field: string | null;
}

/** Who has a feature or a request open: to the connections that have announced a view of it, when this changes. */
export interface PresenceMessage {
  type: 'presence';
  project_id: string;
  environment_id: string;
  /** Either this or `pending_change_id`. */
  feature_id?: string;
  pending_change_id?: string;
  /** At most 20, with those who edit first; includes the receiver. */
  users: PresenceUser[];
  /** The number of all users. */
  count: number;
}

/**
 * Announces that the user has a feature or a request open; without a subject, that the view was closed. The server
 * forgets a view that is not announced again within 8.5 seconds.
 */
export interface AnnounceMessage {
  type: 'announce';
  /** Identifies a page of the client: at most 64 characters. */
  view: string;
  project_id?: string;
  env_id?: string | number;
  /** Either this or `pending_change_id`. */
  feature_id?: string;
  pending_change_id?: string;
  /** The field that the user is editing: at most 64 letters, digits, `_`, `.` and `-`. */
  field?: string;
}
