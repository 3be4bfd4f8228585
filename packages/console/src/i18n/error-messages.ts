/** Error messages by the code of the server. Other codes show the server's own message. */
export const enErrors = {
  unreachable: 'Can’t reach the server. Check your connection and try again.',
  invalid: 'Some fields aren’t valid. Check them and try again.',
  invalid_login: 'Wrong username or password.',
  too_many_attempts: 'Too many failed attempts. Wait a few minutes and try again.',
  password_wrong: 'Wrong password. Nothing was decided.',
  decide_elsewhere: 'Your password can’t be checked here. Decide in Togglr.',
  user_inactive: 'This user is deactivated. Contact an administrator.',
  forbidden: 'You don’t have permission to do this in this project.',
  writes_off: 'This server is read only. Make changes where the flags are managed.',
  stale_version: 'Someone else just changed this flag. Review it and try again.',
  stale_request: 'This request or its flag changed while you were reading. Review it and decide again.',
  key_taken: 'A flag with this key already exists. Choose another key.',
  change_pending: 'This flag already has a pending request. Wait for its decision first.',
  conflict: 'The flag changed since this request, so it can’t be approved. Reject it and request again.',
  own_change: 'You can’t approve your own request. Ask another approver.',
  not_own_change: 'Only its author can cancel a request.',
  unknown_feature: 'This flag was deleted.',
  unknown_change: 'This request no longer exists.',
  unsupported_change: 'This request can’t be applied here. Decide where it was made, or reject it.',
  guard_unreadable:
    'The server can’t read whether this flag is guarded, so nothing was changed. Contact your administrator.',
  outcome_unknown:
    'Not confirmed: the change may or may not be saved. Check the flag and its history in a minute before you try again.',
  busy: 'The server is busy and refused the request. Try again in a moment.',
  too_many_requests: 'Too many of your requests are in progress. Try again in a moment.',
  unavailable: 'The database isn’t responding. Try again in a moment.',
  not_available: 'This database has live events only.',
};

/** What is wrong with an input, by the text of the server, with `#` for its number. Other texts are shown as they are. */
export const enFieldProblems = {
  'is missing': 'Fill in this field.',
  'must be a text': 'Enter a text.',
  'must not be empty': 'Fill in this field.',
  'may have at most # characters': 'Use at most # characters.',
  'holds a character that cannot be stored': 'Remove the character that can’t be saved.',
  'must begin with a letter or a digit and have nothing but letters, digits and . _ - in it':
    'Use letters, digits and . _ - and start with a letter or digit.',
  'is taken by another feature of this project': enErrors.key_taken,
};
