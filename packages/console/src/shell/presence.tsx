import type { PresenceState } from '@flagcast/client/presence';
import { Avatar, createSafeContext, Group, Text } from '@mantine/core';
import { useI18n } from '../i18n/i18n.js';
import { avatarName, nameOf } from '../i18n/visible.js';

/** How many people are named. */
const maxNames = 3;

/** Who else has the page open, in one line: the page does not move when people come and go. */
export function PresenceLine({ others, count }: PresenceState) {
  const { t } = useI18n();
  if (count === 0) return null;
  const named = others.slice(0, maxNames);
  const texts = named.map(({ username, field }) =>
    field === null
      ? t.presence.viewing(username)
      : t.presence.editingField(username, nameOf(t.fields, field)),
  );
  if (count > named.length) texts.push(t.presence.more(count - named.length));
  const text = texts.join(' · ');
  return (
    <Group gap="xs" wrap="nowrap" miw={0} className="fc-presence">
      <Group gap={4} wrap="nowrap" aria-hidden="true">
        {named.map(({ user_id: id, username }) => (
          <Avatar key={id} name={avatarName(username)} color="initials" size={24} />
        ))}
      </Group>
      <Text size="sm" c="dimmed" truncate title={text}>
        {text}
      </Text>
    </Group>
  );
}

interface FlagPresence {
  /** The other users who have the flag open. */
  readonly others: PresenceState['others'];
  /** Call it with the field that the user edits. */
  readonly onEditing: (field: string | null) => void;
}

export const [FlagPresenceContext, useFlagPresence] = createSafeContext<FlagPresence>(
  'useFlagPresence needs a FlagPresenceContext',
);

/** At a field: who else edits it. */
export function Editing({ field }: { readonly field: string }) {
  const { t } = useI18n();
  const { others } = useFlagPresence();
  const names = others.filter((other) => other.field === field).map(({ username }) => username);
  if (names.length === 0) return null;
  return (
    <Text className="fc-editing" size="xs" truncate>
      {names.map((name) => t.presence.editing(name)).join(' · ')}
    </Text>
  );
}
