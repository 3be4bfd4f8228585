import type { FeatureTag } from '@flagcast/client';
import { Badge, type BadgeProps } from '@mantine/core';
import { visible } from '../i18n/visible.js';

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
