import { type ChangeEvent, useState } from 'react';
import { useI18n } from '../i18n/i18n.js';
import { useDraft } from './use-draft.js';
import { useLimit } from './use-limit.js';

/** The server's limit, in characters. */
const maxReasonLength = 500;

/** The reason of a request or a decision. What is typed is kept as the draft with this name. */
export function useReason(draftName: string) {
  const { t } = useI18n();
  const draft = useDraft<string>(draftName);
  const [typed, setTyped] = useState(() => draft.read() ?? '');
  const { note, tooLong } = useLimit()(typed, maxReasonLength);
  const reason = typed.trim();
  return {
    /** As the server gets it. */
    reason,
    /** There is one, and it is not too long. */
    ready: reason !== '' && tooLong === null,
    /** Removes the draft. */
    forget: () => draft.write(null),
    /** The props of its text field. */
    input: {
      label: t.approvals.reason,
      description: note,
      error: tooLong,
      value: typed,
      onChange: ({ currentTarget: { value } }: ChangeEvent<HTMLTextAreaElement>) => {
        setTyped(value);
        draft.write(value === '' ? null : value);
      },
      required: true,
    },
  };
}
