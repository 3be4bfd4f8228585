import type { FeatureTag, PendingChange } from '@flagcast/client';
import { Badge, type BadgeProps } from '@mantine/core';
import { useI18n } from '../i18n/i18n.js';
import { visible } from '../i18n/visible.js';
import { ClockIcon } from '../shell/icons.js';
import { RelativeTime } from '../shell/relative-time.js';

/** The default value of a flag, on one line. */
export function FlagValue({ value }: { readonly value: string }) {
  if (value === '') return <span className="fc-note">–</span>;
  return (
    <code className="fc-value fc-truncate" dir="ltr" title={visible(value)}>
      {visible(value)}
    </code>
  );
}

interface TagBadgeProps extends Pick<BadgeProps, 'size' | 'fw' | 'leftSection'> {
  readonly tag: FeatureTag;
}

/** A tag of a flag. `leftSection` replaces the dot in the tag's color. */
export function TagBadge({ tag: { slug, name, color }, ...props }: TagBadgeProps) {
  return (
    <Badge
      variant="default"
      tt="none"
      title={visible(name ?? slug)}
      leftSection={<span className="fc-tag" style={{ backgroundColor: color ?? undefined }} />}
      {...props}
    >
      {visible(name ?? slug)}
    </Badge>
  );
}

/** A pending request of a flag, with its author and its age. */
export function PendingBadge({ change }: { readonly change: PendingChange }) {
  const { t } = useI18n();
  return (
    <Badge
      variant="light"
      color="yellow"
      size="sm"
      tt="none"
      className="fc-pending fc-shrink"
      leftSection={<ClockIcon size={12} />}
    >
      {t.features.pendingBy(change.requested_by)}
      <span className="fc-pending-age">
        {' '}
        · <RelativeTime at={change.created_at} />
      </span>
    </Badge>
  );
}
