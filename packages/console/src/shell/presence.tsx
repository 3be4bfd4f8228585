import type { PresenceState } from '@flagcast/client/presence';
import { Avatar, Group, Text } from '@mantine/core';
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
    <div className="fc-presence">
      <Group gap={4} wrap="nowrap" aria-hidden="true">
        {named.map(({ user_id: id, username }) => (
          <Avatar key={id} name={avatarName(username)} color="initials" size={24} />
        ))}
      </Group>
      <Text size="sm" c="dimmed" truncate title={text}>
        {text}
      </Text>
    </div>
  );
}

interface EditingProps {
  readonly others: PresenceState['others'];
  readonly field: string;
}

/** At a field: who else edits it. */
export function Editing({ others, field }: EditingProps) {
  const { t } = useI18n();
  const names = others.filter((other) => other.field === field).map(({ username }) => username);
  if (names.length === 0) return null;
  return (
    <Text className="fc-editing" size="xs" truncate>
      {names.map((name) => t.presence.editing(name)).join(' · ')}
    </Text>
  );
}
